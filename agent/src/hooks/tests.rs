//! What the script is given, and what becomes of its output and its process group.

use std::fs;

use deploy_spec::Digest;

use rustix::process::{Pid, Signal};

use super::{group::TICK, *};
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

const IMAGE: &str =
    r#"{"Entrypoint":["/bin/server"],"User":"app","Env":["GREETING=hello"],"New":1}"#;

struct Host {
    directory: tempfile::TempDir,
    image: ImageConfig,
}

impl Host {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            image: serde_json::from_str(IMAGE).unwrap(),
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
            Hook::Script,
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
        self.switch(old, environment, async |switch| {
            script.run(switch, &Tail::default(), stop).await
        })
        .await
    }

    async fn switch<T>(
        &self,
        old: bool,
        environment: &[(&str, &str)],
        run: impl AsyncFnOnce(&Switch<'_>) -> T,
    ) -> T {
        let layer = Digest::sha256(b"layer");
        let record = Record {
            layers: vec![LayerRecord {
                name: "code".to_owned(),
                version: "v01".to_owned(),
                file: String::new(),
                hash: layer.hex().to_owned(),
                digest: layer,
                size: None,
                ctime: None,
            }],
            ..Record::bare(&Digest::sha256(b"new"), "project")
        };
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let switch = Switch {
            old: old.then(|| ("old-id".to_owned(), "/old/root".into())),
            new: &record,
            new_root: "/new/root".into(),
            environment: &environment,
            image: Some(&self.image),
            directory: self.directory.path(),
        };
        run(&switch).await
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
        ("IMAGE_CMD", "/evil"),
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
        r#"IMAGE_CMD=[]"#.to_owned(),
        r#"IMAGE_ENTRYPOINT=["/bin/server"]"#.to_owned(),
        r#"IMAGE_ENV=["GREETING=hello"]"#.to_owned(),
        r#"IMAGE_EXPOSED_PORTS={}"#.to_owned(),
        r#"IMAGE_LABELS={}"#.to_owned(),
        r#"IMAGE_STOP_SIGNAL="""#.to_owned(),
        r#"IMAGE_USER="app""#.to_owned(),
        r#"IMAGE_VOLUMES={}"#.to_owned(),
        r#"IMAGE_WORKING_DIR="""#.to_owned(),
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
    let state = fs::read(host.path("env.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["Name"], "project");
    let image: serde_json::Value = serde_json::from_str(IMAGE).unwrap();
    assert_eq!(state["Image"], image);
    assert_eq!(fs::read_to_string(host.path("env.mode")).unwrap(), "600\n");
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
async fn what_no_process_can_have_is_left_to_statefile() {
    let mut host = Host::new();
    let long = "x".repeat(LONGEST_VARIABLE);
    let labels = serde_json::json!({ "long": long });
    let env = [format!("LONG={long}"), "SHORT=1".to_owned()];
    let image = serde_json::json!({ "Labels": labels, "Env": env, "Cmd": ["a"] });
    host.image = serde_json::from_value(image.clone()).unwrap();
    let script = host.script(&format!(
        "echo $IMAGE_CMD $SHORT ${{IMAGE_LABELS-unset}} ${{IMAGE_ENV-unset}} ${{LONG-unset}} >{0}; cat $STATEFILE >{0}.json",
        host.path("env").display()
    ));
    let release = [
        ("LONG", &*long),
        ("SHORT", "1"),
        ("IMAGE_LABELS", "of the release"),
    ];
    host.run(&script, false, &release, &Stop::default())
        .await
        .unwrap();
    let text = fs::read_to_string(host.path("env")).unwrap();
    assert_eq!(text, "[\"a\"] 1 unset unset unset\n");
    let state = fs::read(host.path("env.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["Image"], image);
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
    let script = Script::open(Hook::Script, &host.path("deploy.sh"), []).unwrap();
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
        let error = Script::open(Hook::Prepare, &host.path(name), []).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

impl Host {
    /// Asks the script as a check.
    async fn check(
        &self,
        script: Script,
        timeout: Duration,
        soak: Duration,
        stop: &Stop,
    ) -> (Result<(), AgentError>, Vec<String>) {
        let (check, tail) = (Check::new(script, timeout, soak), Tail::default());
        let result = self
            .switch(true, &[], async |switch| {
                check.run(switch, &tail, stop).await
            })
            .await;
        (result, tail.take())
    }

    /// A script that counts its runs in the file `runs` and then does `body`, with the count in $n.
    fn counting(&self, body: &str) -> Script {
        let runs = self.path("runs").display().to_string();
        self.script(&format!(
            "echo x >>{runs}; n=$(wc -l <{runs}); echo run $n; {body}"
        ))
    }

    fn runs(&self) -> usize {
        let runs = fs::read_to_string(self.path("runs")).unwrap_or_default();
        runs.lines().count()
    }
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn check_is_asked_until_it_passes() {
    let host = Host::new();
    let script = host.counting("[ $n -ge 3 ]");
    let (result, tail) = host
        .check(script, LONG, Duration::ZERO, &Stop::default())
        .await;
    result.unwrap();
    assert_eq!((host.runs(), tail), (3, vec!["run 3".to_owned()]));
}

#[tokio::test]
async fn check_that_never_passes_is_a_refusal_that_says_what_it_said_last() {
    let host = Host::new();
    let limit = Duration::from_millis(300);
    let script = host.counting("echo not well >&2; exit 5");
    let (result, tail) = host
        .check(script, limit, Duration::ZERO, &Stop::default())
        .await;
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(error.is_refusal());
    assert!(
        text.ends_with("did not pass within 300ms: it exited with status 5"),
        "{text}"
    );
    assert!(tail.contains(&"not well".to_owned()), "{tail:?}");
    // A run that hangs is ended with the time of the whole.
    let script = host.counting("sleep 600");
    let (result, _) = host
        .check(script, limit, Duration::ZERO, &Stop::default())
        .await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("it was ended, having run for"), "{text}");
}

#[tokio::test]
async fn check_has_to_go_on_passing_throughout_the_soak() {
    let host = Host::new();
    let soak = Duration::from_millis(400);
    let script = host.counting("true");
    let (result, _) = host.check(script, LONG, soak, &Stop::default()).await;
    result.unwrap();
    // Once to pass, and at the end of the soak at the latest.
    assert!(host.runs() >= 2, "{}", host.runs());
    fs::remove_file(host.path("runs")).unwrap();
    let script = host.counting("[ $n -ne 3 ]");
    let (result, tail) = host
        .check(script, LONG, LONG / 6000, &Stop::default())
        .await;
    if host.runs() > 2 {
        let text = result.unwrap_err().to_string();
        assert!(text.contains("passed, and no longer after"), "{text}");
        assert_eq!(tail, ["run 3"]);
    }
}

#[tokio::test]
async fn check_that_cannot_be_run_or_is_stopped_is_no_refusal() {
    let host = Host::new();
    let script = host.script("true");
    write_script(&host.path("deploy.sh"), "#!/no/such/shell\n");
    let (result, _) = host
        .check(script, LONG, Duration::ZERO, &Stop::default())
        .await;
    let error = result.unwrap_err();
    assert!(!error.is_refusal(), "{error}");
    let script = host.counting("exit 1");
    let stop = Stop::default();
    let utter = async {
        while host.runs() < 2 {
            sleep(TICK).await;
        }
        stop.stop();
    };
    let ((result, _), ()) = tokio::join!(host.check(script, LONG, Duration::ZERO, &stop), utter);
    assert!(matches!(result, Err(AgentError::Interrupted)), "{result:?}");
}
