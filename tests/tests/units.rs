//! The units that start images: systemd takes them without a word, and reads them as they are meant.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use deploy_from_docker::unit::{UnitOptions, unit};
use deploy_spec::{Digest, Release, release::Image};
use deploy_tests::command::Run;
use deploy_tests::{peer_or_skip, peers};
use serde_json::{Value, json};

/// The image whose configuration has this `config`.
fn image(config: &Value) -> Image {
    let layer = Digest::sha256(b"layer");
    let document = json!({
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    });
    let document = document.to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::sha256(document.as_bytes()),
            "size": document.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer,
            "size": 5,
        }],
    });
    let manifest = manifest.to_string();
    let name = "web".parse().unwrap();
    let release = Release::parse(name, manifest.as_bytes(), document.as_bytes());
    release.unwrap().image
}

/// Writes the unit of an image as `web.service` into a directory that everyone can read.
fn written(directory: &Path, root: &str, config: &Value) {
    let options = UnitOptions::default();
    let name = "web".parse().unwrap();
    let text = unit(&name, &image(config), Path::new(root), &options).unwrap();
    std::fs::write(directory.join("web.service"), text).unwrap();
    // Those that every unit needs; the machine's own would bring all the others.
    for target in ["sysinit", "basic", "shutdown"] {
        let text = "[Unit]\nDescription=Of the test\n";
        std::fs::write(directory.join(format!("{target}.target")), text).unwrap();
    }
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Whatever is hard to write down. No newline and no tab among the arguments: systemd prints one as it prints a
/// backslash and a letter.
fn hard() -> Value {
    json!({
        "Entrypoint": ["/bin/sh", "-c", "echo \"$HOME\" '${X}' $$ 100% %n \\ \\n;"],
        "Cmd": ["", ";", "a  b", "é", "-", "%%", "$", "&&", "a#b"],
        "Env": ["PATH=/usr/bin:/bin", "A=b c \"q\" 'r' %n $X \\ \\n;#", "EMPTY=", "SPACE= ", "odd.name=x"],
        "User": "root:root",
        "WorkingDir": "/a b/100%",
        "StopSignal": "SIGRTMIN+3",
        "Volumes": {"/var/lib/data": {}, "odd\nvolume": {}},
    })
}

#[test]
fn systemd_finds_nothing_wrong_with_units_of_images() {
    const NAME: &str = "systemd_finds_nothing_wrong_with_units_of_images";
    let analyze = peer_or_skip!(NAME, "systemd-analyze");
    let plain = json!({"Cmd": ["/bin/sh"]});
    for (root, config) in [("/srv/web", plain), ("/srv/it's 100%", hard())] {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path(), root, &config);
        let answer = Run::new(&analyze)
            .arg("verify")
            .arg(directory.path().join("web.service"))
            .ok();
        assert_eq!((&*answer.stdout, &*answer.stderr), ("", ""), "{answer}");
    }
}

#[test]
fn systemd_reads_units_as_the_image_says_it() {
    const NAME: &str = "systemd_reads_units_as_the_image_says_it";
    let manager = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
    let Some(manager) = manager.iter().find(|path| Path::new(path).exists()) else {
        return peers::skip(NAME, "systemd");
    };
    let setpriv = peer_or_skip!(NAME, "setpriv");
    let directory = tempfile::tempdir().unwrap();
    let config = hard();
    written(directory.path(), "/srv/it's 100%", &config);
    let scratch = directory.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    std::fs::set_permissions(&scratch, PermissionsExt::from_mode(0o777)).unwrap();
    // It prints what it would start, for anyone but root, and starts nothing.
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut run = match rustix::process::geteuid().is_root() {
        true => Run::new(&setpriv).args(as_nobody).arg(manager),
        false => Run::new(manager),
    };
    run = run
        .args(["--test", "--user", "--no-pager", "--unit=web.service"])
        .env("SYSTEMD_UNIT_PATH", directory.path())
        .env("XDG_RUNTIME_DIR", &scratch)
        .env("HOME", &scratch);
    let answer = run.ok();
    let (_, ours) = answer.stdout.split_once("-> Unit web.service:").unwrap();
    let ours = ours.split("-> Unit ").next().unwrap();
    let values = |name: &str| -> Vec<&str> {
        let values = ours.lines().map(|line| line.trim_start_matches('\t'));
        let values = values.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.collect()
    };
    assert_eq!(values("RootDirectory"), ["/srv/it's 100%"]);
    assert_eq!(values("WorkingDirectory"), ["/a b/100%"]);
    assert_eq!(values("KillSignal"), ["SIGRTMIN+3"]);
    assert_eq!(values("MountAPIVFS"), ["yes"]);
    assert_eq!(values("PrivateTmp"), ["yes"]);
    assert_eq!(values("Restart"), ["on-failure"]);
    let texts = |property: &str| -> Vec<String> {
        let texts = config[property].as_array().unwrap().iter();
        texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let environment = texts("Env");
    assert_eq!(values("Environment"), environment[..environment.len() - 1]);
    // Printed as a shell reads it, with each dollar doubled still.
    let printed = values("Command Line").pop().unwrap();
    let shell = Run::new("/bin/sh")
        .arg("-c")
        .arg(format!(r"printf '%s\n' {printed}"))
        .ok();
    let found: Vec<_> = shell
        .stdout
        .lines()
        .map(|word| word.replace("$$", "$"))
        .collect();
    assert_eq!(
        found,
        [texts("Entrypoint"), texts("Cmd")].concat(),
        "{printed}"
    );
}
