//! What an operator asks of a host before a deployment and after it: what would change, whether the tree is what was
//! deployed, what is needed no more. Beside an agent that runs.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;
use deploy_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

fn agent(desk: &Desk, arguments: &[&str]) -> Run {
    desk.run(Program::Agent.path())
        .args(arguments.iter().copied())
}

fn plan(desk: &Desk, arguments: &[&str]) -> Run {
    agent(desk, &["plan", "-addr", desk.address(), "-dir", "host"])
        .args(["-name", "project"])
        .args(arguments.iter().copied())
}

fn verify(desk: &Desk, arguments: &[&str]) -> Run {
    agent(desk, &["verify", "-dir", "host"]).args(arguments.iter().copied())
}

fn json(run: Run, code: i32) -> Value {
    let answer = run.args(["-output", "json"]).code(code);
    serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}\n{answer}"))
}

/// Waits until this release is deployed and nothing more is done.
fn wait_for(desk: &Desk, release: &str) {
    wait::until_true("the release is deployed", || {
        // Until the agent has begun there is nothing that could be asked about.
        let answer = agent(desk, &["status", "-dir", "host", "-output", "json"]).answer();
        let now: Value = serde_json::from_str(&answer.unwrap().stdout).unwrap_or_default();
        now["deployed"]["release"] == release && now["step"] == "idle"
    });
}

#[test]
fn plan_tells_what_a_deployment_then_does() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    desk.write("push/data/v1/kept", "kept");
    desk.write("push/data/v1/gone", "gone");
    desk.write("push/data/v2/kept", "kept");
    desk.write("push/data/v2/new\nline", "new");
    for version in ["v1", "v2"] {
        let directory = format!("push/data/{version}");
        desk.deployctl(["push", &format!("data:{version}"), &directory])
            .ok();
    }
    desk.compose("project", &["code:v1", "data:v1"]);
    let answer = plan(&desk, &[]).ok();
    assert!(answer.stdout.starts_with("deployed: nothing\n"), "{answer}");
    assert!(answer.stdout.contains("\n+ program 3 bytes\n"), "{answer}");
    assert!(!desk.path("host").exists());
    let script = desk.script("deploy.sh", "true");
    desk.agent_once("project", "host", &script).ok();
    let answer = plan(&desk, &["-exit-code"]).ok();
    assert!(
        answer.stdout.ends_with("nothing would change\n"),
        "{answer}"
    );

    let mut running = desk.agent("project", "host", &script, &["-prepare", "/bin/false"]);
    desk.compose("project", &["code:v2", "data:v2"]);
    wait::until_true("the release is there and refused", || {
        json(agent(&desk, &["status", "-dir", "host"]), 0)["scripts"]["prepare"]["status"] == 1
    });
    let answer = plan(&desk, &["-exit-code"]).code(3);
    let expected = "changes: 1 added, 1 changed, 1 removed, 0 with other mode, owner, time or attributes\n\
                    - gone\n+ new\\nline 3 bytes\n~ program 3 bytes\n";
    assert!(answer.stdout.ends_with(expected), "{answer}");
    // The agent has the layers and the tree already.
    assert!(
        answer.stdout.contains("to fetch: 0 bytes, 0 of 2"),
        "{answer}"
    );
    assert!(answer.stdout.contains("to write: 0 bytes"), "{answer}");
    running.signal(Signal::TERM);
    running.wait();
    std::fs::remove_dir_all(desk.path("host/cache")).unwrap();
    let trees = std::fs::read_dir(desk.path("host/unpacked")).unwrap();
    let trees = trees.map(|entry| entry.unwrap().path());
    let tree = { trees }
        .find(|tree| *tree != desk.current("host"))
        .unwrap();
    std::fs::remove_dir_all(tree).unwrap();

    let before = Tree::of(desk.path("host/unpacked"));
    let outline = json(plan(&desk, &["-no-fetch"]), 0);
    assert_eq!(outline["counts"], Value::Null);
    let told = json(plan(&desk, &[]), 0);
    assert_eq!(told["fetch_bytes"], outline["fetch_bytes"]);
    assert!(told["fetch_bytes"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(told["write"]["bytes"], 3 + 4 + 3);
    assert_eq!(
        told["changes"][1],
        json!({"path": "new\\nline", "change": "added", "kind": "file", "size": 3})
    );
    assert_eq!(before.difference(&Tree::of(desk.path("host/unpacked"))), "");
    assert_eq!(json(plan(&desk, &["-no-fetch"]), 0)["fetch_bytes"], 0);
    desk.agent_once("project", "host", &script).ok();
    assert_eq!(desk.read("host/current/program"), "two");
}

#[test]
fn drifted_tree_is_found_and_restored_beside_the_agent() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script("deploy.sh", "echo started >$NEWROOT/log");
    let mut running = desk.agent("project", "host", &script, &[]);
    wait_for(&desk, "v1");
    let answer = verify(&desk, &[]).code(3);
    assert!(answer.stdout.contains("\nlog: extra file\n"), "{answer}");
    verify(&desk, &["-extra", "ignore"]).ok();
    let before = Tree::of(desk.current("host"));
    std::fs::write(desk.current("host").join("program"), "evil").unwrap();
    let found = json(verify(&desk, &[]), 3);
    assert_eq!(found["drifted"], 2);
    assert_eq!(found["drifts"][1]["path"], "program");
    assert_eq!(found["drifts"][1]["deviations"][0]["kind"], "content");
    // Nobody said where layers are that are not here any more.
    std::fs::remove_dir_all(desk.path("host/cache")).unwrap();
    let answer = verify(&desk, &["-repair"]).code(1);
    answer.assert_is_refusal();
    assert!(
        answer.stderr.contains("code:v1") && answer.stderr.contains("-addr"),
        "{answer}"
    );
    let address = desk.address().to_owned();
    let answer = verify(&desk, &["-repair", "-addr", &address, "-extra=ignore"]).ok();
    assert!(
        answer.stdout.contains("program: content, time: restored\n")
            || answer.stdout.contains("program: content: restored\n"),
        "{answer}"
    );
    assert_eq!(before.difference(&Tree::of(desk.current("host"))), "");
    verify(&desk, &["-repair", "-extra", "remove"]).ok();
    verify(&desk, &[]).ok();
    assert!(!desk.path("host/current/log").exists());
    desk.change("project", "code", "v2");
    wait_for(&desk, "v2");
    assert!(!running.ended());
    running.signal(Signal::TERM);
    running.wait();
}

#[test]
fn nothing_is_looked_at_while_the_agent_is_at_work() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script(
        "deploy.sh",
        "touch begun; while [ ! -e go ]; do sleep 0.1; done",
    );
    let mut running = desk.agent("project", "host", &script, &[]);
    wait::until_true("the script runs", || desk.path("begun").exists());
    for verb in ["verify", "prune"] {
        let answer = agent(&desk, &[verb, "-dir", "host", "-wait", "100ms"]).code(1);
        answer.assert_is_refusal();
        let pid = running.pid().to_string();
        for part in [&*pid, "deploying v1 (sha256:", ": script"] {
            assert!(answer.stderr.contains(part), "no `{part}` in\n{answer}");
        }
    }
    desk.write("go", "");
    wait_for(&desk, "v1");
    verify(&desk, &[]).ok();
    running.signal(Signal::TERM);
    running.wait();
}

#[test]
fn trees_share_the_files_that_stay_the_same_where_that_is_asked_for() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    desk.write("push/data/v1/small", "small");
    desk.write("push/data/v1/d/large", "large ".repeat(100_000));
    desk.deployctl(["push", "data:v1", "push/data/v1"]).ok();
    desk.compose("project", &["code:v1", "data:v1"]);
    let script = desk.script("deploy.sh", "ls $NEWROOT >>entries");
    let deploy = |linked: usize| {
        let answer = desk
            .agent_once("project", "host", &script)
            .arg("-link")
            .ok();
        let expected = format!("linked_files={linked}");
        assert!(answer.stderr.contains(&expected), "{answer}");
        desk.current("host")
    };
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let one = deploy(0);
    desk.change("project", "code", "v2");
    let answer = plan(&desk, &["-link"]).ok();
    let expected = "changes: 0 added, 1 changed, 0 removed, 0 with other mode";
    assert!(answer.stdout.contains(expected), "{answer}");
    let two = deploy(2);
    for (name, shared) in [("small", true), ("d/large", true), ("program", false)] {
        let inodes = [&one, &two].map(|tree| inode(&tree.join(name)));
        assert_eq!(inodes[0] == inodes[1], shared, "{name}");
        assert_eq!(fs::metadata(two.join(name)).unwrap().mode() & 0o222, 0);
    }
    verify(&desk, &[]).ok();

    // Somebody who may give himself the right to.
    let (small, before) = (two.join("small"), inode(&two.join("small")));
    fs::set_permissions(&small, Permissions::from_mode(0o644)).unwrap();
    fs::write(&small, "drift").unwrap();
    let found = json(verify(&desk, &[]), 3);
    assert_eq!(found["drifts"][0]["path"], "small");
    verify(&desk, &["-repair"]).ok();
    verify(&desk, &[]).ok();
    assert_eq!(fs::read_to_string(&small).unwrap(), "small");
    // The old tree shares what drifted, not what was mended.
    assert_eq!(fs::read_to_string(one.join("small")).unwrap(), "drift");
    assert_eq!(inode(&one.join("small")), before);

    desk.push_file("code", "v3", "program", "three");
    desk.change("project", "code", "v3");
    let three = deploy(2);
    assert_eq!(inode(&three.join("small")), inode(&small));
    let answer = agent(&desk, &["prune", "-dir", "host", "-keep", "0"]).ok();
    assert!(answer.stdout.contains("removed 1 trees"), "{answer}");
    assert!(!one.exists());
    // Without the flag a tree is as it was, and nothing is shared with it.
    desk.push_file("code", "v4", "program", "four");
    desk.change("project", "code", "v4");
    desk.agent_once("project", "host", &script).ok();
    let four = desk.current("host");
    assert_eq!(fs::metadata(four.join("small")).unwrap().nlink(), 1);
    verify(&desk, &[]).ok();
    assert_eq!(desk.read("entries").lines().count(), 4 * 3);
}

#[test]
fn what_is_needed_no_more_goes_and_the_way_back_stays() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let script = desk.script("deploy.sh", "cp $NEWROOT/program deployed");
    let mut running = desk.agent("project", "host", &script, &[]);
    wait_for(&desk, "v1");
    for (number, release) in [(3, "v2"), (4, "v3"), (5, "v4")] {
        let version = format!("v{number}");
        desk.push_file("code", &version, "program", &version);
        desk.change("project", "code", &version);
        wait_for(&desk, release);
    }
    let trees = || {
        std::fs::read_dir(desk.path("host/unpacked"))
            .unwrap()
            .count()
    };
    assert_eq!(trees(), 4);
    let prune = |arguments: &[&str]| {
        agent(&desk, &["prune", "-dir", "host"]).args(arguments.iter().copied())
    };
    let would = json(prune(&["-dry-run"]), 0);
    assert_eq!((trees(), would["trees"].as_array().unwrap().len()), (4, 2));
    let answer = prune(&[]).ok();
    let expected = "removed 2 trees, 0 layers, 0 leftovers: ";
    assert!(answer.stdout.contains(expected), "{answer}");
    assert!(answer.stdout.ends_with("2 trees stay\n"), "{answer}");
    let did = json(prune(&["-keep", "0"]), 0);
    assert_eq!((&did["bytes"], trees()), (&json!(0), 2));
    agent(&desk, &["rollback", "-dir", "host"]).ok();
    wait_for(&desk, "v3");
    assert_eq!(desk.read("deployed"), "v4");
    verify(&desk, &["-addr", desk.address()]).ok();
    running.signal(Signal::TERM);
    running.wait();
}
