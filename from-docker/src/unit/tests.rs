//! What a unit says, to the letter.

use deploy_spec::{Digest, Release};
use serde_json::json;

use super::*;

/// Returns the image of this configuration, the way in which every image comes here.
fn image(properties: &Value) -> Image {
    let mut config = properties.clone();
    config["rootfs"] = json!({"type": "layers", "diff_ids": [Digest::sha256(b"layer")]});
    let config = config.to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::sha256(config.as_bytes()),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": Digest::sha256(b"layer"),
            "size": 5,
        }],
    });
    let name = "web".parse().unwrap();
    let release = Release::parse(name, manifest.to_string().as_bytes(), config.as_bytes());
    release.unwrap().image
}

fn made(properties: &Value) -> Result<String, UnitError> {
    made_at("/srv/web", properties)
}

fn made_at(root: &str, properties: &Value) -> Result<String, UnitError> {
    let has_program = |path: &Path| path == Path::new("/usr/local/bin/entry.sh");
    let options = UnitOptions {
        has_program: Some(&has_program),
    };
    let name = "web".parse().unwrap();
    unit(&name, &image(properties), Path::new(root), &options)
}

/// Returns the lines of `[Service]` that depend on the image.
fn lines(config: Value) -> Vec<String> {
    let text = made(&json!({"os": "linux", "config": config})).unwrap();
    let all: Vec<_> = text.lines().map(str::to_owned).collect();
    let begin = all
        .iter()
        .position(|line| line.starts_with("BindReadOnlyPaths"));
    let end = all.iter().position(|line| line.starts_with("Restart="));
    all[begin.unwrap() + 1..end.unwrap()].to_vec()
}

fn refused(config: Value) -> UnitError {
    made(&json!({"os": "linux", "config": config})).unwrap_err()
}

#[test]
fn unit_says_all_that_the_image_says() {
    let image = json!({
        "os": "linux",
        "architecture": "amd64",
        "config": {
            "Entrypoint": ["/usr/sbin/nginx", "-g"],
            "Cmd": ["daemon off;"],
            "Env": ["PATH=/usr/bin:/bin", "GREETING=hello \"world\"", "odd.name=x"],
            "User": "www-data:33",
            "WorkingDir": "/var/www",
            "StopSignal": "SIGQUIT",
            "Volumes": {"/var/cache": {}},
            "ExposedPorts": {"80/tcp": {}},
        },
    });
    let expected = "\
# Starts the program of the image that the configuration `web` is. Made by `deploy-from-docker unit`.
#
# RootDirectory= is looked up whenever the service starts; one that runs keeps the tree that it started
# with. Let it be a symbolic link that the script of deploy-agent renews, since the agent's own `current`
# leads to the old release as long as the script runs:
#   ln -sfnT \"$NEWROOT\" /srv/web && systemctl restart web.service
#
# The image's User is `www-data:33`. systemd looks for it among the accounts of this host, where it has to be,
# with the numbers that the tree's files have.
#
# The image keeps data in directories that are to outlive a release. Bind each to one of this host, by a
# line in [Service] such as:
#   BindPaths=/var/lib/web/VOLUME:\"/var/cache\"

[Unit]
Description=Image of the configuration web
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
RootDirectory=/srv/web
MountAPIVFS=yes
PrivateTmp=yes
# As a container engine puts them there; the image's own say nothing of this host.
BindReadOnlyPaths=-/etc/resolv.conf -/etc/hosts
User=www-data
Group=33
WorkingDirectory=/var/www
Environment=\"PATH=/usr/bin:/bin\"
Environment=\"GREETING=hello \\\"world\\\"\"
# Left out, since systemd sets no such variable: odd.name
ExecStart=\"/usr/sbin/nginx\" \"-g\" \"daemon off;\"
KillSignal=SIGQUIT
Restart=on-failure
RestartSec=1s

[Install]
WantedBy=multi-user.target
";
    assert_eq!(made(&image).unwrap(), expected);
}

#[test]
fn words_stay_what_they_are() {
    let config = json!({
        "Cmd": ["/bin/sh", "", ";", "a b", "\"'\\", "$HOME ${X} $$", "100%", "\n\t\u{1}\u{7f}é", "-x"],
        "Env": ["A=$B %d \\ \"\n\t", "EMPTY=", "BELL=\u{7}", "1A=x", "A-B=x", "no sign"],
    });
    assert_eq!(
        lines(config),
        [
            "WorkingDirectory=/",
            r#"Environment="A=$B %%d \\ \"\n\t""#,
            r#"Environment="EMPTY=""#,
            "# Left out, since systemd sets no such variable: BELL",
            "# Left out, since systemd sets no such variable: 1A",
            "# Left out, since systemd sets no such variable: A-B",
            r#"ExecStart="/bin/sh" "" ";" "a b" "\"'\\" "$$HOME $${X} $$$$" "100%%" "\n\t\x01\x7fé" "-x""#,
        ]
    );
}

#[test]
fn programs_are_found_as_engines_find_them() {
    let exec = |config: Value| lines(config).pop().unwrap();
    let table = [
        (json!({"Entrypoint": "/one"}), "ExecStart=\"/one\""),
        (json!({"Entrypoint": ["/a//b/./c"]}), "ExecStart=\"/a/b/c\""),
        (
            json!({"Cmd": ["./run", "x"], "WorkingDir": "/srv"}),
            "ExecStart=\"/srv/run\" \"x\"",
        ),
        (json!({"Cmd": ["bin/run"]}), "ExecStart=\"/bin/run\""),
        (
            json!({"Cmd": ["entry.sh"]}),
            "ExecStart=\"/usr/local/bin/entry.sh\"",
        ),
        (
            json!({"Cmd": ["entry.sh"], "Env": ["PATH=/bin::/usr/local/bin"]}),
            "ExecStart=\"/usr/local/bin/entry.sh\"",
        ),
        (
            json!({"Cmd": ["entry.sh"], "Env": ["PATH=bin"], "WorkingDir": "usr/local"}),
            "ExecStart=\"/usr/local/bin/entry.sh\"",
        ),
        (json!({"Cmd": ["/100%"]}), "ExecStart=\"/100%%\""),
    ];
    for (config, expected) in table {
        assert_eq!(exec(config), expected);
    }
    let unfound = refused(json!({"Cmd": ["entry.sh"], "Env": ["PATH=/bin"]}));
    assert!(
        unfound.to_string().starts_with(
            "the program `entry.sh` is in none of the directories of the image's PATH, `/bin`\nhint: "
        ),
        "{unfound}"
    );
    let name = "web".parse().unwrap();
    let image = image(&json!({"config": {"Cmd": ["entry.sh"]}}));
    let unasked = unit(&name, &image, Path::new("/r"), &UnitOptions::default());
    assert!(
        matches!(unasked, Err(UnitError::Unfound { .. })),
        "{unasked:?}"
    );
}

#[test]
fn accounts_and_signals_are_checked() {
    let account = |user: &str| {
        let mut lines = lines(json!({"Cmd": ["/x"], "User": user}));
        lines.retain(|line| line.starts_with("User=") || line.starts_with("Group="));
        lines
    };
    for (user, expected) in [
        ("", &[][..]),
        ("app", &["User=app"]),
        ("1000", &["User=1000"]),
        ("app:staff", &["User=app", "Group=staff"]),
        ("1000:1001", &["User=1000", "Group=1001"]),
        ("0:0", &["User=0", "Group=0"]),
    ] {
        assert_eq!(account(user), expected);
    }
    for user in [
        ":",
        "a:",
        ":b",
        "a:b:c",
        "a b",
        "-a",
        "a/b",
        "a\n",
        "%u",
        "4294967295",
        "99999999999",
    ] {
        let refused = refused(json!({"Cmd": ["/x"], "User": user}));
        assert_eq!(refused, UnitError::User(user.to_owned()));
    }
    let signal = |signal: &str| lines(json!({"Cmd": ["/x"], "StopSignal": signal})).pop();
    for (given, expected) in [
        ("SIGTERM", "KillSignal=SIGTERM"),
        ("quit", "KillSignal=SIGQUIT"),
        ("15", "KillSignal=15"),
        ("SIGRTMIN+3", "KillSignal=SIGRTMIN+3"),
        ("RTMAX-0", "KillSignal=SIGRTMAX-0"),
    ] {
        assert_eq!(signal(given).as_deref(), Some(expected));
    }
    for given in [
        "SIG",
        "0",
        "65",
        "+9",
        "SIGRTMIN+31",
        "SIGRTMIN-1",
        "TERM\n",
        "SIGNOPE",
    ] {
        let refused = refused(json!({"Cmd": ["/x"], "StopSignal": given}));
        assert_eq!(refused, UnitError::Signal(given.to_owned()));
    }
}

#[test]
fn what_cannot_be_started_is_refused() {
    let path = |what, path: &str| UnitError::Path {
        what,
        path: path.to_owned(),
    };
    let table = [
        (json!({}), UnitError::NoProgram),
        (json!({"Entrypoint": [], "Cmd": null}), UnitError::NoProgram),
        (json!({"Cmd": ["/x", "\u{0}"]}), UnitError::Nul("Cmd")),
        (
            json!({"Cmd": ["/x"], "Env": ["A=\u{0}"]}),
            UnitError::Nul("Env"),
        ),
        (json!({"Cmd": [1]}), UnitError::Malformed("Cmd")),
        (
            json!({"Entrypoint": {}}),
            UnitError::Malformed("Entrypoint"),
        ),
        (json!({"Cmd": [""]}), UnitError::Program(String::new())),
        (json!({"Cmd": ["/"]}), UnitError::Program("/".to_owned())),
        (
            json!({"Cmd": ["/x/"]}),
            UnitError::Program("/x/".to_owned()),
        ),
        (
            json!({"Cmd": ["/a$b"]}),
            UnitError::Program("/a$b".to_owned()),
        ),
        (
            json!({"Cmd": ["/a/../b"]}),
            UnitError::Program("/a/../b".to_owned()),
        ),
        (
            json!({"Cmd": ["/x"], "WorkingDir": "/a\n[Service]"}),
            path("working directory", "/a\n[Service]"),
        ),
        (
            json!({"Cmd": ["/x"], "WorkingDir": "/a\\"}),
            path("working directory", "/a\\"),
        ),
        (
            json!({"Cmd": ["/x", "y".repeat(text::LONGEST_LINE)]}),
            UnitError::TooLong("Entrypoint and Cmd"),
        ),
    ];
    for (config, expected) in table {
        assert_eq!(refused(config), expected);
    }
    let windows = json!({"os": "windows", "config": {"Cmd": ["/x"]}});
    assert_eq!(
        made(&windows),
        Err(UnitError::OtherSystem("windows".to_owned()))
    );
    assert_eq!(made(&json!({})), Err(UnitError::NoProgram));
    let image = json!({"config": {"Cmd": ["/x"]}});
    for root in ["/", "srv/web", "/a/../b", "/a\nb", "/a ", ""] {
        assert_eq!(made_at(root, &image), Err(path("root", root)));
    }
    let text = made_at("/srv/a 100%'", &image).unwrap();
    assert!(text.contains("\nRootDirectory=/srv/a 100%%'\n"), "{text}");
    assert!(text.contains(r#" '/srv/a 100%'\''' && "#), "{text}");
}
