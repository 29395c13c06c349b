//! Who did what in a registry, as an operator asks for it: every change with what was before and what is after, whoever
//! wrote it down, and whatever became of that one's process.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use deploy_tests::desk::Desk;
use deploy_tests::minio::Minio;
use deploy_tests::registry::Registry;
use deploy_tests::replicas::Replicas;
use deploy_tests::{http, oci, peer_or_skip, wait};
use serde_json::{Value, json};

/// What `deployctl audit` says with these arguments.
fn audit(desk: &Desk, arguments: &[&str]) -> Vec<Value> {
    let all = ["audit", "-n", "0"].iter().chain(arguments).copied();
    desk.json(all).as_array().unwrap().clone()
}

/// Of changes of tags: which one, what it meant and what it means.
fn tags(lines: &[Value]) -> Vec<Value> {
    let of_tags = |line: &&Value| line["action"].as_str().unwrap().starts_with("tag.");
    let change = |line: &Value| {
        let tag = format!(
            "{}:{}",
            line["repository"].as_str().unwrap(),
            line["reference"].as_str().unwrap()
        );
        json!([line["action"], tag, line["before"], line["after"]])
    };
    lines.iter().filter(of_tags).map(change).collect()
}

#[test]
fn operators_see_what_was_pushed_moved_and_deleted_and_what_it_was_before() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let digest = |repository: &str, tag: &str| {
        let manifest = oci::manifest(&registry.address(), repository, tag).unwrap();
        manifest.unwrap().digest
    };
    let first = digest("configs/project", "latest");
    desk.change("project", "code", "v2");
    let second = digest("configs/project", "latest");
    let versions = [
        digest("components/code", "v1"),
        digest("components/code", "v2"),
    ];
    desk.deployctl(["delconf", "-name", "project", "-force"])
        .ok();

    let project = audit(&desk, &["-name", "project"]);
    let changes = tags(&project);
    let made = [
        json!(["tag.move", "configs/project:v1", null, first]),
        json!(["tag.move", "configs/project:latest", null, first]),
        json!(["tag.move", "configs/project:v2", null, second]),
        json!(["tag.move", "configs/project:latest", first, second]),
    ];
    assert_eq!(changes[..4], made);
    // In which order they go is not for us to say.
    let mut gone = changes[4..].to_vec();
    gone.sort_by_key(ToString::to_string);
    let deleted = [
        json!(["tag.delete", "configs/project:latest", second, null]),
        json!(["tag.delete", "configs/project:v1", first, null]),
        json!(["tag.delete", "configs/project:v2", second, null]),
    ];
    assert_eq!(gone, deleted);
    for line in &project {
        assert_eq!(line["actor"]["kind"], "anonymous");
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(line["agent"].as_str().unwrap().starts_with("deployctl/"));
    }
    let code = audit(&desk, &["-component", "code"]);
    let pushed = [
        json!(["tag.move", "components/code:v1", null, versions[0]]),
        json!(["tag.move", "components/code:v2", null, versions[1]]),
    ];
    assert_eq!(tags(&code), pushed);
    assert_eq!(audit(&desk, &[]).len(), project.len() + code.len());

    // As people see it: the last line, and nothing of another time.
    let shown = desk.deployctl(["audit", "-n", "1"]).ok().stdout;
    assert_eq!(shown.lines().count(), 1, "{shown}");
    assert!(shown.contains("   anonymous   "), "{shown}");
    let before = desk.deployctl(["audit", "-until", "1h"]).ok().stdout;
    assert_eq!(before, "");
}

#[test]
fn what_was_written_down_survives_any_end_of_the_registry() {
    let mut registry = Registry::start();
    let desk = Desk::at(registry.address());
    let mut pushed = 0;
    let mut seen = Vec::new();
    for round in 0..3 {
        for _ in 0..20 {
            pushed += 1;
            let bytes = format!("content {pushed}");
            oci::push_blob(&registry.address(), "a", bytes.as_bytes()).unwrap();
        }
        // Whoever looks sees everything that he did before.
        let lines = audit(&desk, &[]);
        assert_eq!(lines[..seen.len()], seen);
        seen = lines;
        for _ in 0..20 {
            pushed += 1;
            let bytes = format!("content {pushed}");
            oci::push_blob(&registry.address(), "a", bytes.as_bytes()).unwrap();
        }
        match round {
            0 => {
                registry.terminate();
                assert!(registry.wait().success());
            }
            _ => registry.kill(),
        }
        registry.restart();
        let lines = audit(&desk, &[]);
        assert_eq!(lines[..seen.len()], seen);
        assert!(lines.len() <= pushed);
        if round == 0 {
            assert_eq!(lines.len(), pushed);
        }
        seen = lines;
    }
}

#[test]
fn replicas_keep_one_log() {
    let test = "replicas_keep_one_log";
    let minio = Minio::start(&peer_or_skip!(test, Minio::PROGRAM));
    let mut replicas = Replicas::start(&minio, "audit", 2, &[]);
    let desks = [0, 1].map(|index| Desk::at(replicas.replica(index)));
    let digests: Vec<String> = (0..6_u8)
        .map(|round| {
            let replica = replicas.replica(usize::from(round) % 2);
            oci::push_image(&replica, "a", "latest", &[round]).unwrap()
        })
        .collect();
    let mut before = Value::Null;
    let moves = digests.iter().map(|digest| {
        let after = json!(digest);
        let before = std::mem::replace(&mut before, after.clone());
        json!(["tag.move", "a:latest", before, after])
    });
    let moves: Vec<Value> = moves.collect();
    for desk in &desks {
        wait::until_true("what the other one did is seen", || {
            tags(&audit(desk, &[])) == moves
        });
    }
    replicas.kill(0);
    assert_eq!(tags(&audit(&desks[1], &[])), moves);
}

#[test]
fn whoever_keeps_no_log_shows_none_and_who_asks_another_registry_is_told_so() {
    let registry = Registry::start_with(&["--no-audit"]);
    let desk = Desk::stocked(registry.address());
    assert_eq!(audit(&desk, &[]), [Value::Null; 0]);
    assert!(!registry.directory().join("audit").exists());
    let refused = desk.deployctl(["audit", "-since", "yesterday"]).code(2);
    refused.assert_is_refusal();
    assert!(
        refused.stderr.contains("`yesterday` is no time"),
        "{refused}"
    );
    let reply = http::get(&registry.address(), "/v2/_deploytools/audit?since=x").unwrap();
    assert_eq!(reply.status, 400);
}
