//! `kill -9` of the verbs that change something on a host, at every step that does: what they leave is gone on with.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::peer_or_skip;
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;

fn long() -> bool {
    std::env::var_os("DEPLOY_TESTS_LONG").is_some()
}

fn verb(desk: &Desk, arguments: &[&str]) -> Run {
    desk.run(Program::Agent.path())
        .args(arguments.iter().copied())
}

/// Plays a round for every step of these kinds of calls: `prepare`, then the verb, which is killed before it makes the
/// call for the `number`th time, then `look`. Returns how often it was killed.
fn at_every_step(
    desk: &Desk,
    strace: &Path,
    calls: &str,
    arguments: &[&str],
    prepare: impl Fn(),
    look: impl Fn(&str),
) -> usize {
    let mut deaths = 0;
    for call in calls.split(',') {
        let mut number = 1;
        loop {
            prepare();
            let answer = desk
                .run(strace)
                .args(["-f", "-qq", "-o", "/dev/null", "-e"])
                .arg(format!("trace={call}"))
                .arg("-e")
                .arg(format!("inject={call}:signal=KILL:when={number}"))
                .arg(Program::Agent.path())
                .args(arguments.iter().copied())
                .answer()
                .unwrap();
            assert!(matches!(answer.code, 0 | 137), "{answer}");
            look(&format!("{call} {number}"));
            if answer.code == 0 {
                break;
            }
            deaths += 1;
            number += if long() { 1 } else { 1 + 2 * number };
        }
    }
    deaths
}

/// A host with two releases of a tree that has something of everything.
fn host(desk: &Desk) {
    let script = desk.script("deploy.sh", "true");
    for version in ["v1", "v2"] {
        let root = format!("src/{version}");
        desk.write(&format!("{root}/a/file"), version.repeat(50_000));
        desk.write(&format!("{root}/a/b/other"), version);
        desk.write(&format!("{root}/top"), "the same");
        symlink("a/file", desk.path(&format!("{root}/link"))).unwrap();
        desk.deployctl(["push", &format!("code:{version}"), &root])
            .ok();
        desk.compose("project", &[&format!("code:{version}")]);
        desk.agent_once("project", "host", &script).ok();
    }
}

#[test]
fn repair_killed_at_every_step_leaves_old_files_or_new_ones() {
    let strace = peer_or_skip!(
        "repair_killed_at_every_step_leaves_old_files_or_new_ones",
        "strace"
    );
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    host(&desk);
    let root = desk.current("host");
    // When a directory was changed last is not restored for its own sake.
    let whole = Tree::of(&root).without_times();
    let damage = || {
        std::fs::write(root.join("a/file"), "damaged").unwrap();
        std::fs::set_permissions(root.join("top"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::remove_dir_all(root.join("a/b")).unwrap();
        std::fs::remove_file(root.join("link")).unwrap();
        std::fs::write(root.join("link"), "damaged").unwrap();
    };
    let look = |step: &str| {
        let file = std::fs::read(root.join("a/file")).unwrap();
        let new = "v2".repeat(50_000);
        assert!(
            file == b"damaged" || file == new.as_bytes(),
            "{step}: {} bytes",
            file.len()
        );
        assert_eq!(desk.read("host/current/top"), "the same", "{step}");
        let other = std::fs::read(root.join("a/b/other"));
        assert!(other.is_err() || other.unwrap() == b"v2", "{step}");
        verb(&desk, &["verify", "-dir", "host", "-repair"]).ok();
        verb(&desk, &["verify", "-dir", "host"]).ok();
        let left = whole.difference(&Tree::of(&root).without_times());
        assert_eq!(left, "", "{step}");
        let left = Tree::of(desk.path("host/unpacked"));
        let left = left.paths().iter().any(|path| path.starts_with('.'));
        assert!(!left, "{step}: something is left");
    };
    let calls = "openat,write,renameat,mkdirat,symlinkat,unlinkat,fchmod,syncfs";
    let arguments = ["verify", "-dir", "host", "-repair"];
    let deaths = at_every_step(&desk, &strace, calls, &arguments, damage, look);
    assert!(deaths > 10, "it was killed at {deaths} steps only");
}

#[test]
fn prune_killed_at_every_step_leaves_whole_trees_or_none() {
    let strace = peer_or_skip!(
        "prune_killed_at_every_step_leaves_whole_trees_or_none",
        "strace"
    );
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    host(&desk);
    let unpacked = desk.path("host/unpacked");
    let old = format!("host/unpacked/sha256-{}", "0".repeat(64));
    let names = ["one", "two", "d/three"];
    let prepare = || {
        for name in names {
            desk.write(&format!("{old}/{name}"), name);
        }
        desk.write("host/unpacked/.staging-old/file", "x");
        desk.write(&format!("host/cache/sha256/{}.part", "0".repeat(64)), "x");
    };
    let before = Tree::of(&unpacked);
    let look = |step: &str| {
        let there: Vec<_> = names
            .iter()
            .map(|name| desk.path(&old).join(name).exists())
            .collect();
        let whole = if desk.path(&old).exists() {
            [true; 3]
        } else {
            [false; 3]
        };
        assert_eq!(there, whole, "{step}");
        verb(&desk, &["prune", "-dir", "host"]).ok();
        assert_eq!(before.difference(&Tree::of(&unpacked)), "", "{step}");
        let answer = verb(&desk, &["prune", "-dir", "host"]).ok();
        assert!(
            answer
                .stdout
                .starts_with("removed 0 trees, 0 layers, 0 leftovers"),
            "{answer}"
        );
        verb(&desk, &["verify", "-dir", "host"]).ok();
    };
    let calls = "openat,rename,unlink,unlinkat,fsync,flock";
    let arguments = ["prune", "-dir", "host"];
    let deaths = at_every_step(&desk, &strace, calls, &arguments, prepare, look);
    assert!(deaths > 5, "it was killed at {deaths} steps only");
}
