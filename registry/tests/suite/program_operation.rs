//! The program as an operator meets it: help, manual, reloading, its service manager.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deploy-registry"));
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> String {
    let output = program(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A registry in memory; killed when dropped.
struct Serving {
    child: Child,
    log: BufReader<ChildStderr>,
    url: String,
}

impl Serving {
    fn start(arguments: &[&str], notify: Option<&Path>) -> Self {
        let usual = ["-addr", "127.0.0.1:0", "-memory", "-anonymous", "write"];
        let mut command = program(&[&usual, arguments].concat());
        if let Some(path) = notify {
            command.env("NOTIFY_SOCKET", path);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serving = Self {
            child,
            log,
            url: String::new(),
        };
        let line = serving.wait_for("listening address=");
        let (_, address) = line.split_once("address=").unwrap();
        serving.url = format!("http://{}", address.split_whitespace().next().unwrap());
        serving
    }

    /// Returns the next line of the log with this in it.
    fn wait_for(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let length = self.log.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "it ended without `{text}`");
        }
        line
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks until it is answered so, and returns how often that was. A second between two
    /// requests makes room for another one.
    async fn ask_until(&self, status: u16) -> usize {
        for asked in 1..1000 {
            if self.status("/v2/").await == status {
                return asked;
            }
        }
        panic!("never answered with {status}");
    }

    async fn status(&self, path: &str) -> u16 {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("{}{path}", self.url)).send().await;
        answer.unwrap().status().as_u16()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_reads_like_a_manual() {
    let help = output(&["--help"]);
    for heading in [
        "Commands:",
        "Network:",
        "Storage:",
        "Upkeep:",
        "Limits:",
        "Logs:",
        "Examples:",
        "Environment:",
        "Signals:",
        "Files:",
        "Exit codes:",
    ] {
        assert!(
            help.lines().any(|line| line == heading),
            "{heading}\n{help}"
        );
    }
    // No line that wraps in a usual terminal, and no section without a word.
    for line in help.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    assert_eq!(output(&["-help"]), help);
    assert!(output(&["serve", "-help"]).contains("--rate-limit <RATE[:BURST]>"));
}

#[test]
fn manual_and_completions_are_printed() {
    let page = output(&["man"]);
    assert!(page.contains(".TH deploy-registry 1"), "{page}");
    assert!(page.contains("rate\\-limit"), "{page}");
    assert!(page.contains("SIGHUP"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    output(&["man", directory.path().to_str().unwrap()]);
    for page in ["deploy-registry.1", "deploy-registry-serve.1"] {
        assert!(directory.path().join(page).is_file(), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(output(&["completions", shell]).contains("addr-file"));
    }
}

#[tokio::test]
async fn hangup_reloads_limits_filter_and_access_log() {
    let directory = tempfile::tempdir().unwrap();
    let (config, access) = (
        directory.path().join("conf"),
        directory.path().join("access"),
    );
    std::fs::write(&config, "# nothing yet\n").unwrap();
    let flags = [
        "-config",
        config.to_str().unwrap(),
        "-access-log",
        access.to_str().unwrap(),
    ];
    let mut serving = Serving::start(&flags, None);
    assert_eq!(serving.status("/v2/").await, 200);
    assert_eq!(serving.status("/v2/").await, 200);
    let moved = directory.path().join("access.1");
    std::fs::rename(&access, &moved).unwrap();
    std::fs::write(&config, "rate-limit = 1:1\nlog = debug\n").unwrap();
    serving.signal(Signal::HUP);
    serving.wait_for("limits are set");
    serving.wait_for("reloaded");
    assert!(access.exists());
    assert_eq!(serving.status("/v2/").await, 200);
    let asked = 1 + serving.ask_until(429).await;
    // What cannot be understood changes nothing.
    std::fs::write(&config, "rate-limit = many\n").unwrap();
    serving.signal(Signal::HUP);
    let line = serving.wait_for("cannot reload");
    assert!(line.contains("line 1: "), "{line}");
    let asked = asked + serving.ask_until(429).await;
    serving.signal(Signal::TERM);
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((lines(&moved), lines(&access)), (2, asked));
}

#[test]
fn a_file_that_says_nothing_sensible_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("conf");
    std::fs::write(&config, "addr = localhost:1\n").unwrap();
    let flags = [
        "-anonymous",
        "write",
        "-memory",
        "-config",
        config.to_str().unwrap(),
    ];
    let output = program(&flags).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("deploy-registry: cannot read"), "{text}");
    assert!(text.contains("line 1: "), "{text}");
}

#[test]
fn the_service_manager_hears_when_it_is_ready_and_when_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut serving = Serving::start(&[], Some(&path));
    let mut buffer = [0; 256];
    let mut told = || {
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let ready = told();
    assert!(
        ready.starts_with("READY=1\nSTATUS=serving on 127.0.0.1:"),
        "{ready}"
    );
    serving.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}
