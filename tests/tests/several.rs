//! One agent for several configurations, with mirrors, a limit on its rate, a proxy between, and numbers for whoever
//! watches it.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::process::Command;
use std::time::Duration;

use deploy_tests::desk::Desk;
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;
use deploy_tests::server::Server;
use deploy_tests::{http, wait};
use rand::RngExt;
use rustix::process::Signal;

/// Writes down which configuration was deployed, and its program.
const SCRIPT: &str = r#"n=$(sed -n 's/.*"Name": "\(.*\)",/\1/p' $STATEFILE | head -n1); cp $NEWROOT/program deployed-$n"#;

/// A desk with the configurations `web` and `data`, of a component each.
fn stocked(registry: &Registry) -> Desk {
    let desk = Desk::at(registry.address());
    for (name, component) in [("web", "pages"), ("data", "tables")] {
        for version in ["v1", "v2"] {
            desk.push_file(component, version, "program", &format!("{name} {version}"));
        }
        desk.compose(name, &[&format!("{component}:v1")]);
    }
    desk
}

fn agent(desk: &Desk, flags: &[&str]) -> Server {
    let script = desk.script("deploy.sh", SCRIPT);
    let mut command = Command::new(Program::Agent.path());
    command
        .args(["-addr", desk.address(), "-dir", "hosts", "-script"])
        .arg(script)
        .args(flags)
        .current_dir(desk.home())
        .env("HOME", desk.home());
    Server::start(command, desk.path("agent.log")).unwrap()
}

#[track_caller]
fn deployed(desk: &Desk, name: &str, expected: &str) {
    wait::until_true(&format!("{expected} of {name}"), || {
        let found = std::fs::read_to_string(desk.path(&format!("deployed-{name}")));
        found.is_ok_and(|found| found == expected)
    });
}

/// Follows both, and checks that each goes its own way.
fn both_are_followed(desk: &Desk, flags: &[&str]) {
    let mut agent = agent(desk, &[flags, &["-metrics", "127.0.0.1:0"]].concat());
    deployed(desk, "web", "web v1");
    deployed(desk, "data", "data v1");
    desk.change("web", "pages", "v2");
    deployed(desk, "web", "web v2");
    assert_eq!(desk.read("hosts/data/current/program"), "data v1");
    let log = agent.log();
    let (_, rest) = log.split_once("metrics are at http://").unwrap();
    let (address, _) = rest.split_once("/metrics").unwrap();
    let expected = [
        r#"deploy_agent_deployments_total{configuration="web",channel="latest"} 2"#,
        r#"deploy_agent_deployments_total{configuration="data",channel="latest"} 1"#,
        r#"deploy_agent_source_up{configuration="data",channel="latest"} 1"#,
    ];
    wait::until_true("the numbers of both", || {
        let text = http::get(address, "/metrics").unwrap().text();
        expected.iter().all(|line| text.contains(line))
    });
    // Beside the agent, each configuration is a host of its own.
    let status = desk.run(Program::Agent.path());
    let status = status.args(["status", "-dir", "hosts/web"]).ok();
    assert!(status.stdout.contains("deployed: web v2"), "{status}");
    agent.signal(Signal::TERM);
    assert!(agent.wait().success());
}

#[test]
fn several_configurations_are_followed_by_one_agent() {
    let registry = Registry::start();
    let desk = stocked(&registry);
    both_are_followed(&desk, &["-name", "web", "-name", "data"]);
}

#[test]
fn file_of_configurations_is_what_would_have_been_typed() {
    let registry = Registry::start();
    let desk = stocked(&registry);
    desk.write(
        "agent.toml",
        "reserve = \"1MiB\"\n[web]\nkeep = 1\n[data]\ncheck = \"/bin/true\"\n",
    );
    both_are_followed(&desk, &["-config", "agent.toml"]);
}

#[test]
fn agent_that_cannot_go_on_with_one_configuration_ends_as_a_whole() {
    let registry = Registry::start();
    let desk = stocked(&registry);
    // Nothing can be read where the state should be.
    std::fs::create_dir_all(desk.path("hosts/web/state.json")).unwrap();
    let mut agent = agent(&desk, &["-name", "web", "-name", "data"]);
    let status = agent.wait();
    assert_eq!(status.code(), Some(1), "{}", agent.log());
    assert!(
        agent.log().contains("hosts/web/state.json"),
        "{}",
        agent.log()
    );
}

#[test]
fn numbers_of_a_single_look_are_in_a_file_afterwards() {
    let registry = Registry::start();
    let desk = stocked(&registry);
    let script = desk.script("deploy.sh", "false");
    let look = desk.agent_once("web", "host", &script);
    look.args(["-metrics-file", "agent.prom"]).code(1);
    let text = desk.read("agent.prom");
    let expected = r#"deploy_agent_failures_total{configuration="web",channel="latest"} 1"#;
    assert!(text.contains(expected), "{text}");
}

#[test]
fn layers_come_from_a_mirror_that_has_them() {
    let (registry, mirror) = (Registry::start(), Registry::start());
    let (desk, other) = (
        Desk::stocked(registry.address()),
        Desk::stocked(mirror.address()),
    );
    // The same files make the same layer; the configuration there is an older one, and of no interest.
    desk.change("project", "code", "v2");
    let script = desk.script("deploy.sh", "true");
    let nobody = "127.0.0.1:1";
    let look = desk.agent_once("project", "host", &script);
    other.change("project", "code", "v2");
    other.change("project", "code", "v1");
    let answer = look
        .args(["-mirror", nobody, "-mirror", other.address()])
        .ok();
    assert_eq!(desk.read("host/current/program"), "two");
    let mut lines = answer.stderr.lines();
    let fetched = lines.find(|line| line.contains("layer fetched")).unwrap();
    let (_, layer) = fetched.split_once("blob.digest=").unwrap();
    let layer = layer.split_whitespace().next().unwrap();
    let sent = |registry: &Registry| {
        let asked = format!("GET /v2/configs/project/blobs/{layer} 200");
        registry.log().matches(&asked).count()
    };
    wait::until_true("the mirror's log", || sent(&mirror) == 1);
    assert_eq!(sent(&registry), 0, "{answer}");
    assert!(
        answer
            .stderr
            .contains(&format!("`{nobody}/configs/project:latest` is no help")),
        "{answer}"
    );
}

#[test]
fn layers_come_no_faster_than_they_may() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let mut noise = vec![0_u8; 1 << 20];
    rand::rng().fill(&mut noise[..]);
    desk.write("push/noise", noise);
    desk.deployctl(["push", "code:v1", "push"]).ok();
    desk.compose("project", &["code:v1"]);
    let script = desk.script("deploy.sh", "true");
    let look = desk.agent_once("project", "host", &script);
    let answer = look.args(["-limit-rate", "512KiB"]).ok();
    assert!(answer.took >= Duration::from_secs(2), "{answer}");
}

#[test]
fn proxy_of_the_environment_is_used_unless_it_says_otherwise() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    // Nobody can look this name up; a registry takes requests as a proxy gets them.
    let host = Desk::at("http://registry.invalid:5000");
    let script = host.script("deploy.sh", "true");
    let proxy = format!("http://{}", desk.address());
    let look = |directory| {
        let look = host.agent_once("project", directory, &script);
        look.env("http_proxy", &proxy).env("HTTP_PROXY", &proxy)
    };
    look("host").env("no_proxy", "").env("NO_PROXY", "").ok();
    assert_eq!(host.read("host/current/program"), "one");
    let around = look("other");
    let around = around
        .env("no_proxy", "registry.invalid")
        .env("NO_PROXY", "registry.invalid");
    let answer = around.code(1);
    assert!(answer.stderr.contains("cannot reach registry"), "{answer}");
}
