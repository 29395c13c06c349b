//! The demo, in the profile of the tests: it ends well, moves one layer, and leaves nothing behind.

use deploy_tests::command::Run;

#[test]
fn demo_keeps_its_promises_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let answer = Run::new(env!("CARGO_BIN_EXE_demo"))
        .env("TMPDIR", scratch.path())
        .ok();
    assert!(
        answer
            .stdout
            .contains("✓ release v2 moved the changed layer alone"),
        "{answer}"
    );
    assert!(
        !answer.stdout.contains('\u{1b}'),
        "colours in a pipe\n{answer}"
    );
    assert_eq!(
        std::fs::read_dir(scratch.path()).unwrap().count(),
        0,
        "{answer}"
    );
}

#[test]
fn demo_refuses_arguments_that_it_does_not_know() {
    let answer = Run::new(env!("CARGO_BIN_EXE_demo"))
        .arg("--nothing")
        .code(2);
    assert!(answer.stderr.contains("--nothing"), "{answer}");
}

#[test]
fn demo_that_is_kept_runs_on_until_it_is_stopped_as_it_says() {
    let scratch = tempfile::tempdir().unwrap();
    let answer = Run::new(env!("CARGO_BIN_EXE_demo"))
        .arg("--keep")
        .env("TMPDIR", scratch.path())
        .ok();
    let said = |start: &str| {
        let line = answer
            .stdout
            .lines()
            .find_map(|line| line.trim().strip_prefix(start));
        line.unwrap_or_else(|| panic!("no line `{start}`\n{answer}"))
            .trim()
            .to_owned()
    };
    let look = format!("{} && deployctl components", said("look round:"));
    let looked = Run::new("/bin/bash").args(["-c", &look]).answer().unwrap();
    let stopped = Run::new("/bin/bash").args(["-c", &said("stop it:")]).ok();
    assert_eq!(looked.stdout, "code\nconfig\n", "{looked}");
    assert_eq!(
        stopped.stderr, "",
        "a process had ended by itself\n{stopped}"
    );
}
