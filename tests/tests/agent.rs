//! A host that follows a configuration: what the script gets, how quickly a change arrives, what stays after a
//! failure.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::path::{Path, PathBuf};

use deploy_tests::archive::Archive;
use deploy_tests::desk::Desk;
use deploy_tests::distribution::Distribution;
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;
use deploy_tests::{oci, peer_or_skip, wait};
use rustix::process::Signal;
use tar::EntryType;

/// Writes what the script was given to a file of its own for every run.
const REPORT: &str = r#"n=$(ls runs 2>/dev/null | wc -l); mkdir -p runs
{ echo "OLDID=$OLDID"; echo "OLDROOT=$OLDROOT"; echo "NEWID=$NEWID"; echo "NEWROOT=$NEWROOT"; } >runs/$n.tmp
cp "$STATEFILE" state-$n.json; mv runs/$n.tmp runs/$n; echo "the script was here""#;

fn report(desk: &Desk, run: usize) -> [String; 4] {
    let text = desk.read(&format!("runs/{run}"));
    let values: Vec<String> = text
        .lines()
        .map(|line| line.split_once('=').unwrap().1.to_owned())
        .collect();
    values.try_into().unwrap()
}

fn read(root: impl AsRef<Path>, name: &str) -> String {
    std::fs::read_to_string(root.as_ref().join(name)).unwrap()
}

#[test]
fn script_gets_absolute_roots_ids_and_the_state() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script("deploy.sh", REPORT);

    let first = desk.agent_once("project", "host", &script).ok();
    assert!(
        first.stderr.contains("the script was here")
            || first.stdout.contains("the script was here"),
        "{first}"
    );
    let [old_id, old_root, new_id, new_root] = report(&desk, 0);
    assert_eq!((old_id.as_str(), old_root.as_str()), ("", ""));
    assert_eq!(
        new_id,
        oci::manifest(desk.address(), "configs/project", "v1")
            .unwrap()
            .unwrap()
            .digest
    );
    assert!(Path::new(&new_root).is_absolute(), "{new_root}");
    assert_eq!(read(&new_root, "program"), "one");
    assert_eq!(
        desk.current("host"),
        std::fs::canonicalize(&new_root).unwrap()
    );
    let state: serde_json::Value = serde_json::from_str(&desk.read("state-0.json")).unwrap();
    assert!(state.to_string().contains("code"), "{state}");

    desk.agent_once("project", "host", &script).ok();
    assert!(
        !desk.path("runs/1").exists(),
        "nothing changed, and the script ran again"
    );

    desk.change("project", "code", "v2");
    desk.agent_once("project", "host", &script).ok();
    let [old_id, old_root, newer_id, newer_root] = report(&desk, 1);
    assert_eq!((old_id, old_root), (new_id, new_root));
    assert_ne!(newer_id, report(&desk, 0)[2]);
    assert_eq!(read(&newer_root, "program"), "two");
    assert_eq!(desk.read("host/current/program"), "two");
}

#[test]
fn change_reaches_a_waiting_agent_long_before_it_would_poll() {
    let registry = Registry::start();
    change_reaches_agent(&registry.address(), "1h");
}

#[test]
fn agent_polls_a_registry_without_long_poll() {
    let program = peer_or_skip!(
        "agent_polls_a_registry_without_long_poll",
        Distribution::PROGRAM
    );
    let distribution = Distribution::start(&program);
    change_reaches_agent(&distribution.address(), "200ms");
}

fn change_reaches_agent(address: &str, poll: &str) {
    let desk = Desk::stocked(address);
    let script = desk.script("deploy.sh", REPORT);
    let mut agent = desk.agent("project", "host", &script, &["-poll", poll]);
    wait::until_true("the first release is deployed", || {
        desk.path("host/current/program").exists()
    });
    desk.change("project", "code", "v2");
    wait::until_true("the second release is deployed", || {
        desk.path("runs/1").exists() && desk.read("host/current/program") == "two"
    });
    agent.signal(Signal::TERM);
    agent.wait();
}

#[test]
fn failing_script_is_retried_with_growing_pauses_and_the_old_release_stays() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script(
        "deploy.sh",
        "[ $(cat $NEWROOT/program) = one ] || { echo x >>tries; exit 7; }",
    );
    desk.agent_once("project", "host", &script).ok();
    let before = Tree::of(desk.current("host"));
    desk.change("project", "code", "v2");
    let answer = desk.agent_once("project", "host", &script).code(1);
    assert!(answer.stderr.contains('7'), "{answer}");
    assert_eq!(before.difference(&Tree::of(desk.current("host"))), "");

    let tries = || {
        std::fs::read_to_string(desk.path("tries"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    std::fs::remove_file(desk.path("tries")).unwrap();
    let mut agent = desk.agent("project", "host", &script, &["-poll", "50ms"]);
    wait::until_true("the agent tries", || tries() >= 1);
    let seen = wait::until(std::time::Duration::from_secs(3), || {
        (tries() > 6).then(&tries)
    });
    assert_eq!(
        seen,
        None,
        "the script ran in a tight loop\n{}",
        agent.log()
    );
    agent.signal(Signal::TERM);
    agent.wait();
    assert_eq!(desk.read("host/current/program"), "one");
}

#[test]
fn clean_old_removes_what_ran_before_and_keeps_what_runs() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let script = desk.script("deploy.sh", "true");
    for version in ["v1", "v2", "v3"] {
        desk.push_file("code", version, "program", version);
        desk.compose("project", &[&format!("code:{version}")]);
        desk.agent_once("project", "host", &script)
            .arg("-cleanold")
            .ok();
        let roots = std::fs::read_dir(desk.path("host/unpacked"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let roots: Vec<PathBuf> = roots.filter(|path| path.is_dir()).collect();
        assert!(
            roots.len() <= 2 && roots.contains(&desk.current("host")),
            "{roots:?}"
        );
        assert_eq!(desk.read("host/current/program"), version);
    }
}

#[test]
fn state_file_that_is_no_json_is_kept_aside_and_recovered_from() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script("deploy.sh", "cp $NEWROOT/program deployed");
    desk.agent_once("project", "host", &script).ok();
    desk.change("project", "code", "v2");
    desk.write("host/state.json", "{ no json");
    let answer = desk.agent_once("project", "host", &script).ok();
    assert!(answer.stderr.contains("state.json"), "{answer}");
    assert_eq!(desk.read("deployed"), "two");
    let aside = std::fs::read_dir(desk.path("host"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let aside: Vec<_> = aside.filter(|path| path.is_file()).collect();
    let kept = |path: &Path| std::fs::read(path).unwrap() == b"{ no json";
    assert!(
        aside.iter().any(|path| kept(path)),
        "the bad state is in none of {aside:?}"
    );
    assert!(!kept(&desk.path("host/state.json")));
}

#[test]
fn hostile_archives_write_nothing_outside() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let outside = desk.write("outside/victim", "untouched");
    let victim = outside.display().to_string();
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        (
            "dotdot",
            Archive::new().file("../../../outside/victim", "evil").tar(),
        ),
        (
            "absolute",
            Archive::new()
                .entry(EntryType::Regular, &victim, "", 0o644, b"evil")
                .tar(),
        ),
        (
            "through-link",
            Archive::new()
                .symbolic_link("a", outside.parent().unwrap().to_str().unwrap())
                .file("a/victim", "evil")
                .tar(),
        ),
        (
            "hard-link",
            Archive::new()
                .hard_link("a", &victim)
                .file("a", "evil")
                .tar(),
        ),
        (
            "hard-link-up",
            Archive::new()
                .hard_link("a", "../../../outside/victim")
                .tar(),
        ),
        (
            "device",
            Archive::new()
                .entry(EntryType::Char, "null", "", 0o666, b"")
                .tar(),
        ),
        (
            "block",
            Archive::new()
                .entry(EntryType::Block, "disk", "", 0o666, b"")
                .tar(),
        ),
    ];
    let script = desk.script("deploy.sh", "touch ran");
    for (name, layer) in hostile {
        // Past deployctl, which refuses it already: the host has to defend itself.
        oci::push_image(desk.address(), &format!("configs/{name}"), "latest", &layer).unwrap();
        let before = Tree::of(desk.path("outside"));
        let answer = desk
            .agent_once(name, &format!("hosts/{name}"), &script)
            .code(1);
        assert_eq!(
            before.difference(&Tree::of(desk.path("outside"))),
            "",
            "{name}\n{answer}"
        );
        assert!(!desk.path("ran").exists(), "{name}\n{answer}");
        let unpacked = Tree::of(desk.path(&format!("hosts/{name}/unpacked")));
        assert!(
            unpacked
                .entries
                .values()
                .all(|entry| entry.kind == "directory"),
            "{name}: {:?}",
            unpacked.paths()
        );
    }
}
