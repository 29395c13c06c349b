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
