//! A release that a host refuses: the host goes back, says so, and tries again when it is told to.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use deploy_tests::command::{Answer, Run};
use deploy_tests::desk::Desk;
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;
use deploy_tests::wait;
use rustix::process::Signal;
use serde_json::Value;

fn agent(desk: &Desk, arguments: &[&str]) -> Run {
    desk.run(Program::Agent.path())
        .args(arguments.iter().copied())
}

fn status(desk: &Desk) -> Value {
    let answer = agent(desk, &["status", "-dir", "host", "-output", "json"]).ok();
    serde_json::from_str(&answer.stdout).unwrap()
}

#[test]
fn refused_release_is_rolled_back_and_tried_again_when_asked_for() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script(
        "deploy.sh",
        "cp $NEWROOT/program deployed; [ $(cat deployed) = one ] || [ -e well ] || { echo bad luck; exit 3; }",
    );
    let check = desk.script("check.sh", "cmp host/current/program deployed");
    let check = check.display().to_string();
    let flags = ["-rollback", "-check", &check, "-check-timeout", "10m"];
    agent(&desk, &["once", "-addr", desk.address(), "-dir", "host"])
        .args(["-name", "project", "-script", "./deploy.sh"])
        .args(flags)
        .ok();
    let text = agent(&desk, &["status", "-dir", "host"]).ok().stdout;
    assert!(text.starts_with("deployed: project v1 (sha256:"), "{text}");
    assert!(text.contains("agent: does not run"), "{text}");

    desk.change("project", "code", "v2");
    let mut running = desk.agent("project", "host", &script, &flags);
    wait::until_true("the release is rolled back", || {
        status(&desk)["step"] == "rolled-back"
    });
    assert_eq!(desk.read("deployed"), "one");
    assert_eq!(desk.read("host/current/program"), "one");
    let now = status(&desk);
    assert_eq!(now["deployed"]["release"], "v1");
    assert_eq!(now["running"], true);
    assert_eq!(now["pid"], running.pid());
    assert_eq!(now["bad"][0]["release"], "v2");
    assert_eq!(now["scripts"]["script"]["status"], 3);
    assert_eq!(now["scripts"]["script"]["output"][0], "bad luck");
    let text = agent(&desk, &["status", "-dir", "host"]).ok().stdout;
    assert!(
        text.contains("bad: v2 (sha256:") && text.contains("  bad luck"),
        "{text}"
    );
    let once = desk
        .agent_once("project", "other", &script)
        .arg("-rollback");
    let answer = once.code(1);
    assert!(
        answer.stderr.contains("nothing is deployed, as before"),
        "{answer}"
    );

    // Whatever was wrong is mended, and somebody says so.
    desk.write("well", "");
    let answer = agent(&desk, &["retry", "-dir", "host"]).ok();
    assert!(
        answer.stdout.contains(&running.pid().to_string()),
        "{answer}"
    );
    wait::until_true("the release is deployed", || {
        let now = status(&desk);
        now["deployed"]["release"] == "v2" && now["step"] == "idle"
    });
    assert_eq!(desk.read("deployed"), "two");
    assert_eq!(status(&desk)["bad"], Value::Array(Vec::new()));

    // Somebody thinks better of it.
    let answer = agent(&desk, &["rollback", "-dir", "host"]).ok();
    assert!(answer.stdout.contains("from v2 (sha256:"), "{answer}");
    wait::until_true("the release before is deployed again", || {
        let now = status(&desk);
        now["deployed"]["release"] == "v1" && now["step"] == "idle"
    });
    assert_eq!(desk.read("deployed"), "one");
    assert_eq!(status(&desk)["bad"][0]["release"], "v2");
    running.signal(Signal::TERM);
    running.wait();
    let answer = agent(&desk, &["rollback", "-dir", "host"]).code(1);
    answer.assert_is_refusal();
    assert!(
        answer.stderr.contains("nothing good was deployed before"),
        "{answer}"
    );
    let answer = agent(&desk, &["retry", "-dir", "host"]).ok();
    assert!(answer.stdout.contains("no agent runs"), "{answer}");
    desk.agent_once("project", "host", &script).ok();
    assert_eq!(desk.read("deployed"), "two");
}

#[test]
fn verbs_with_bad_input_are_refused() {
    let desk = Desk::at("127.0.0.1:1");
    desk.write("empty/file", "");
    desk.write("damaged/lock", "");
    desk.write("damaged/journal.json", "{ no json");
    let refused = |arguments: &[&str], code: i32, word: &str| {
        let answer: Answer = agent(&desk, arguments).code(code);
        answer.assert_is_refusal();
        assert!(answer.stderr.contains(word), "no `{word}` in\n{answer}");
    };
    for verb in ["status", "retry", "rollback", "verify", "prune"] {
        refused(&[verb, "-dir", "nowhere"], 1, "nowhere");
        refused(&[verb, "-dir", "empty"], 1, "no agent has worked in");
        refused(&[verb, "-dir", "damaged"], 1, "journal.json");
        refused(&[verb, "-name", "project"], 2, "--name");
    }
    refused(&["status", "-output", "xml"], 2, "xml");
    refused(&["once"], 2, "--name");
    refused(&["plan"], 2, "--name");
    refused(
        &["plan", "-name", "project", "-addr", "oci:nowhere"],
        1,
        "nowhere",
    );
    refused(&["prune", "-keep", "some"], 2, "some");
    refused(&["verify", "-fp", "x"], 2, "fp");
    refused(&["roll"], 2, "roll");
    assert!(!desk.path("nowhere").exists());
    assert!(!desk.path("empty/lock").exists());
    assert_eq!(desk.read("damaged/journal.json"), "{ no json");
    // A script that is not there is known before anything is done.
    let script = desk.script("deploy.sh", "true");
    for flag in ["-check", "-prepare"] {
        let answer = desk
            .agent_once("project", "host", &script)
            .args([flag, "gone.sh"]);
        let answer = answer.code(1);
        answer.assert_is_refusal();
        assert!(
            answer.stderr.contains("gone.sh") && answer.stderr.contains(flag),
            "{answer}"
        );
    }
}
