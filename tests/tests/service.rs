//! The agent under a service manager: it says when it is ready, what it is at, that it is alive, and that it ends.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use deploy_tests::desk::Desk;
use deploy_tests::programs::{self, Program};
use deploy_tests::registry::Registry;
use deploy_tests::server::Server;
use deploy_tests::{peer_or_skip, wait};
use rustix::process::Signal;

/// Reads what was said so far.
fn listen(manager: &UnixDatagram, said: &mut Vec<String>) {
    let mut buffer = [0; 1024];
    while let Ok(length) = manager.recv(&mut buffer) {
        said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
}

#[test]
fn service_manager_hears_how_far_the_agent_is() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script("deploy.sh", "true");
    let socket = desk.path("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    let mut command = Command::new(Program::Agent.path());
    command
        .args(["-addr", desk.address(), "-name", "project", "-dir"])
        .arg(desk.path("host"))
        .arg("-script")
        .arg(script)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "100000");
    let mut agent = Server::start(command, desk.path("log")).unwrap();
    let mut said = Vec::new();
    wait::until_true("ready, deployed, and alive several times", || {
        listen(&manager, &mut said);
        let alive = said.iter().filter(|line| *line == "WATCHDOG=1").count();
        let deployed = |line: &String| line.starts_with("STATUS=") && line.ends_with("is deployed");
        said.iter().any(|line| line == "READY=1") && said.iter().any(deployed) && alive > 3
    });
    agent.signal(Signal::TERM);
    assert!(agent.wait().success());
    listen(&manager, &mut said);
    assert!(said.iter().any(|line| line == "STOPPING=1"), "{said:?}");
}

#[test]
fn unit_file_is_one_that_systemd_understands() {
    let name = "unit_file_is_one_that_systemd_understands";
    let analyze = peer_or_skip!(name, "systemd-analyze");
    let desk = Desk::at("localhost:2022");
    let unit = programs::workspace().join("agent/deploy-agent.service");
    let text = std::fs::read_to_string(unit).unwrap();
    let program: PathBuf = Program::Agent.path();
    // The program is installed by whoever installs the unit.
    let text = text.replace(
        "/usr/local/bin/deploy-agent",
        &program.display().to_string(),
    );
    let unit = desk.write("deploy-agent.service", text);
    let answer = desk.run(analyze).arg("verify").arg(unit).answer().unwrap();
    let complaints = answer.stderr.lines();
    // systemd says there what it thinks of every other unit of the machine too.
    let ours: Vec<_> = complaints
        .filter(|line| line.contains("deploy-agent"))
        .collect();
    assert!(answer.succeeded() && ours.is_empty(), "{answer}");
}
