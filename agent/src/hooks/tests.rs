//! What the script is given, and what becomes of its output and its process group.

use std::fs;

use deploy_spec::Digest;

use super::*;
use crate::record::LayerRecord;

/// Writes a file that can be executed at once.
///
/// Not by this process: a child that another test is just starting would hold the file open for
/// writing too, and until it is done with that nobody can execute it.
pub(crate) fn write_script(path: &Path, text: &str) {
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", r#"printf %s "$1" >"$0" && chmod 755 "$0""#])
        .args([path.as_os_str(), text.as_ref()])
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn script(&self, body: &str) -> Script {
        let path = self.path("deploy.sh");
        write_script(&path, &format!("#!/bin/sh\n{body}\n"));
        let environment = [
            ("PATH", "/usr/bin:/bin"),
            ("HOME", "/home/host"),
            ("SECRET", "of the agent"),
        ];
        Script::open(
            &path,
            environment.map(|(name, value)| (name.into(), value.into())),
        )
        .unwrap()
    }

    async fn run(
        &self,
        script: &Script,
        old: bool,
        environment: &[(&str, &str)],
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let layer = Digest::sha256(b"layer");
        let record = Record {
            layers: vec![LayerRecord {
                name: "code".to_owned(),
                version: "v01".to_owned(),
                file: String::new(),
                hash: layer.hex().to_owned(),
                digest: layer,
                ctime: None,
            }],
            ..Record::bare(&Digest::sha256(b"new"), "project")
        };
        let switch = Switch {
            old: old.then(|| ("old-id".to_owned(), "/old/root".into())),
            new: &record,
            new_root: "/new/root".into(),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            directory: self.directory.path(),
        };
        script.run(&switch, stop).await
    }
}

#[tokio::test]
async fn environment_holds_what_is_documented_and_nothing_else() {
    let host = Host::new();
    let script = host.script(&format!(
        "env | sort >{0}; cat $STATEFILE >{0}.json; stat -c %a $STATEFILE >{0}.mode",
        host.path("env").display()
    ));
    let release = [
        ("GREETING", "hello"),
        ("PATH", "/evil"),
        ("NEWROOT", "/evil"),
        ("", "x"),
        ("A=B", "x"),
        ("NUL", "\0"),
    ];
    host.run(&script, true, &release, &Stop::default())
        .await
        .unwrap();
    let text = fs::read_to_string(host.path("env")).unwrap();
    let found: Vec<_> = text
        .lines()
        // What the shell itself adds.
        .filter(|line| {
            !["PWD=", "SHLVL=", "_=", "OLDPWD="]
                .iter()
                .any(|own| line.starts_with(own))
        })
        .map(|line| match line.split_once('=') {
            Some(("STATEFILE", _)) => "STATEFILE=…".to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let expected = [
        "GREETING=hello".to_owned(),
        "HOME=/home/host".to_owned(),
        "LAYER_0_NAME=code".to_owned(),
        "LAYER_0_VERSION=v01".to_owned(),
        format!("NEWID={}", Digest::sha256(b"new")),
        "NEWROOT=/new/root".to_owned(),
        "OLDID=old-id".to_owned(),
        "OLDROOT=/old/root".to_owned(),
        "PATH=/usr/bin:/bin".to_owned(),
        "STATEFILE=…".to_owned(),
    ];
    assert_eq!(found, expected);
    assert!(
        fs::read_to_string(host.path("env.json"))
            .unwrap()
            .contains("\"Name\": \"project\"")
    );
    assert_eq!(fs::read_to_string(host.path("env.mode")).unwrap(), "644\n");
    let left: Vec<_> = fs::read_dir(host.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().contains("statefile")),
        "{left:?}"
    );
}

#[tokio::test]
async fn the_first_run_finds_no_old_release() {
    let host = Host::new();
    let script = host.script("[ \"${OLDID-unset}${OLDROOT-unset}\" = '' ]");
    host.run(&script, false, &[], &Stop::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn exit_status_decides() {
    let host = Host::new();
    for (body, expected) in [
        ("exit 7", "exited with status 7"),
        ("kill -9 $$", "was ended by signal 9"),
    ] {
        let error = host
            .run(&host.script(body), false, &[], &Stop::default())
            .await
            .unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
    }
    write_script(&host.path("deploy.sh"), "#!/no/such/shell\n");
    let script = Script::open(&host.path("deploy.sh"), []).unwrap();
    let error = host
        .run(&script, false, &[], &Stop::default())
        .await
        .unwrap_err();
    assert!(matches!(error, AgentError::Io { .. }), "{error}");
}

#[tokio::test]
async fn a_process_left_running_does_not_hold_the_deployment_up() {
    let host = Host::new();
    let pid = host.path("pid");
    let script = host.script(&format!("sleep 600 & echo $! >{}", pid.display()));
    host.run(&script, false, &[], &Stop::default())
        .await
        .unwrap();
    let text = fs::read_to_string(&pid).unwrap();
    let pid = Pid::from_raw(text.trim().parse().unwrap()).unwrap();
    rustix::process::test_kill_process(pid).expect("it still runs");
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn stopping_ends_the_whole_group() {
    let host = Host::new();
    let pid = host.path("pid");
    let script = host.script(&format!(
        "sleep 600 & echo $! >{0}.tmp; mv {0}.tmp {0}; wait",
        pid.display()
    ));
    let stop = Stop::default();
    let utter = async {
        while !pid.exists() {
            sleep(TICK).await;
        }
        stop.stop();
    };
    let (result, ()) = tokio::join!(host.run(&script, false, &[], &stop), utter);
    assert!(matches!(result, Err(AgentError::Interrupted)), "{result:?}");
    let text = fs::read_to_string(&pid).unwrap();
    let pid = Pid::from_raw(text.trim().parse().unwrap()).unwrap();
    let state = fs::read_to_string(format!("/proc/{pid}/stat", pid = pid.as_raw_nonzero()))
        .unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[tokio::test]
async fn script_that_takes_too_long_is_ended_and_has_failed() {
    let host = Host::new();
    let limit = Duration::from_millis(50);
    let script = host.script("sleep 600; true").limited(Some(limit));
    let error = host.run(&script, false, &[], &Stop::default()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("having run for 50ms"), "{error}");
    // Time that is enough changes nothing.
    let script = host.script("true").limited(Some(Duration::from_secs(600)));
    let done = host.run(&script, false, &[], &Stop::default()).await;
    done.unwrap();
}

#[test]
fn what_cannot_be_run_is_refused_at_the_start() {
    let host = Host::new();
    fs::write(host.path("plain"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(host.path("plain"), Permissions::from_mode(0o644)).unwrap();
    for (name, expected) in [
        ("missing", "is missing"),
        ("plain", "is not executable"),
        (".", "is no file"),
    ] {
        let error = Script::open(&host.path(name), []).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
