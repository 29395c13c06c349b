//! Programs that do not begin: what they miss or would harm is said in one clear line, and nothing is done.

use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;
use deploy_tests::wait;

#[test]
fn agent_refuses_a_configuration_that_is_not_there() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script("deploy.sh", "touch ran");
    let answer = desk.agent_once("nothing", "host", &script).code(1);
    assert!(answer.stderr.contains("nothing"), "{answer}");
    let answer = desk
        .agent_once("Not a name", "host", &script)
        .answer()
        .unwrap();
    answer.assert_is_refusal();
    assert!(!desk.path("ran").exists());
}

#[test]
fn script_that_is_missing_or_not_executable_is_refused_before_anything_is_done() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let plain = desk.write("plain.sh", "#!/bin/sh\ntouch ran\n");
    for script in [desk.path("missing.sh"), plain, desk.home().to_owned()] {
        let answer = desk
            .agent_once("project", "host", &script)
            .answer()
            .unwrap();
        answer.assert_is_refusal();
        assert!(
            answer.stderr.contains(&script.display().to_string()),
            "{answer}"
        );
        assert!(
            !desk.path("host/current").exists() && !desk.path("ran").exists(),
            "{answer}"
        );
    }
}

#[test]
fn second_registry_on_a_directory_is_refused() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let mut command = deploy_tests::registry::command(registry.directory(), 0);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains(&registry.directory().display().to_string()),
        "{stderr}"
    );
    assert_eq!(
        stderr
            .lines()
            .filter(|line| !line.starts_with("hint: "))
            .count(),
        1,
        "{stderr}"
    );
    desk.deployctl(["showconf", "-name", "project"]).ok();
}

#[test]
fn second_agent_in_a_directory_is_refused() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script(
        "deploy.sh",
        "touch started; until [ -e go ]; do sleep 0.05; done",
    );
    let mut first = desk.agent("project", "host", &script, &["-once"]);
    wait::until_true("the first agent runs its script", || {
        desk.path("started").exists()
    });
    let answer = desk.agent_once("project", "host", &script).code(1);
    answer.assert_is_refusal();
    assert!(answer.stderr.contains("host"), "{answer}");
    desk.write("go", "");
    assert!(first.wait().success(), "{}", first.log());
}

#[test]
fn whoever_uses_a_verb_wrongly_is_shown_to_its_own_help() {
    for verb in [
        "", "run", "once", "plan", "verify", "prune", "status", "retry", "rollback",
    ] {
        let run = |flag: &str| {
            let words = [verb, flag].into_iter().filter(|word| !word.is_empty());
            Run::new(Program::Agent.path()).args(words)
        };
        let answer = run("-nonsense").code(2);
        answer.assert_is_refusal();
        let hint = answer
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix("hint: see "));
        let words: Vec<_> = hint.unwrap_or_default().split_whitespace().collect();
        let expected = ["deploy-agent", verb, "--help"];
        assert!(
            words
                .iter()
                .eq(expected.iter().filter(|word| !word.is_empty())),
            "{answer}"
        );
        let help = run("--help").ok();
        assert!(help.stdout.contains("Usage: deploy-agent"), "{help}");
    }
}

#[test]
fn registry_open_to_the_network_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::Registry.path();
    let start = |flags: &[&str]| {
        let run = Run::new(&program)
            .args(["-dir"])
            .arg(directory.path())
            .args(flags.iter().copied());
        run.answer().unwrap()
    };
    for flags in [
        &["-addr", "127.0.0.1:0"][..],
        &["-addr", "0.0.0.0:0", "-anonymous", "write"],
        &["-addr", "[::]:0", "-anonymous", "write"],
    ] {
        let answer = start(flags);
        answer.assert_is_refusal();
        assert!(
            answer.stderr.contains("anonymous") || answer.stderr.contains("loopback"),
            "{answer}"
        );
    }
    let missing = directory.path().join("missing");
    let answer = Run::new(&program)
        .args(["-addr", "127.0.0.1:0", "-anonymous", "write", "-dir"])
        .arg(&missing)
        .answer()
        .unwrap();
    answer.assert_is_refusal();
    assert!(!missing.exists());
}
