//! What is removed, and what never is.

use std::fs;

use serde_json::{Value, json};

use super::{
    host::{Death, Host},
    *,
};
use crate::{
    machine::Exit,
    prune::{Pruned, Pruning},
};

fn prune(host: &Host, keep: usize, dry_run: bool) -> Value {
    let pruned = Pruned::make(&Pruning {
        host: host.visited(),
        keep,
        dry_run,
    });
    serde_json::to_value(pruned.unwrap()).unwrap()
}

/// Returns how many trees, layers and leftovers a prune speaks of.
fn counts(pruned: &Value) -> [usize; 3] {
    ["trees", "layers", "leftovers"].map(|what| pruned[what].as_array().unwrap().len())
}

#[tokio::test]
async fn old_trees_layers_and_leftovers_go_and_what_is_needed_stays() {
    let host = Host::new();
    let mut ids = Vec::new();
    for number in 1..6 {
        ids.push(host.release(number));
        assert_eq!(host.look().await, Exit::Success);
    }
    let there = || -> Vec<_> { ids.iter().map(|id| host.has_tree(id)).collect() };
    fs::create_dir(host.path("host/unpacked/.staging-old")).unwrap();
    fs::write(host.path("host/unpacked/.staging-old/file"), "x").unwrap();
    fs::create_dir(host.path("host/unpacked/mine")).unwrap();
    let stray = "0".repeat(64);
    fs::write(host.path("host/cache/sha256").join(&stray), "x").unwrap();
    fs::write(host.path("host/cache/sha256").join(stray + ".part"), "x").unwrap();
    let would = prune(&host, 2, true);
    assert_eq!(counts(&would), [2, 2, 1]);
    assert!(would["bytes"].as_u64().unwrap() > 0);
    assert_eq!(there(), [true; 5]);
    let did = prune(&host, 2, false);
    assert_eq!(did["dry_run"], false);
    for what in ["trees", "layers", "leftovers", "bytes", "kept"] {
        assert_eq!(did[what], would[what], "{what}");
    }
    assert_eq!(there(), [false, false, true, true, true]);
    assert!(host.path("host/unpacked/mine").exists());
    assert_eq!(counts(&prune(&host, 2, false)), [0; 3]);
    // The one to go back to is not asked about.
    assert_eq!(counts(&prune(&host, 0, false)), [1, 0, 0]);
    assert_eq!(there(), [false, false, false, true, true]);
    host.assert_on(&ids[4]);
    host.ask("rollback");
    assert_eq!(
        host.look().await,
        Exit::Failure,
        "the channel has the other one"
    );
    host.assert_on(&ids[3]);
    // What was left for being bad may go; there is nothing to go back to now.
    assert_eq!(counts(&prune(&host, 1, false)), [1, 0, 0]);
    assert_eq!(there(), [false, false, false, true, false]);
    host.ask("retry");
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&ids[4]);
}

#[tokio::test]
async fn whatever_a_deployment_died_at_goes_on_after_a_prune() {
    let steps = at_each_death(async |death: Death| {
        let host = Host::new();
        let first = host.release(1);
        host.look().await;
        let second = host.release(2);
        let (_, works) = host.once(Some(death)).await;
        let kept = &prune(&host, 0, false)["kept"];
        assert!(
            kept.as_array().unwrap().contains(&json!(first)),
            "{death:?}"
        );
        assert!(host.has_tree(&first), "{death:?}");
        assert_eq!(host.look().await, Exit::Success, "{death:?}");
        host.assert_on(&second);
        let runs = host.whole_runs(death);
        assert_eq!(runs[1..], [format!("{first} {second}")], "{death:?}");
        works
    })
    .await;
    assert_eq!(steps, 9);
}

#[test]
fn nothing_is_removed_where_nobody_knows_what_is_needed() {
    let host = Host::new();
    let prune = || {
        Pruned::make(&Pruning {
            host: host.visited(),
            keep: 0,
            dry_run: false,
        })
        .unwrap_err()
    };
    assert!(matches!(prune(), AgentError::NoAgent { .. }));
    drop(Directory::open(&host.path("host"), None).unwrap());
    let tree = host
        .path("host/unpacked")
        .join(Digest::sha256(b"a").file_name());
    fs::create_dir(&tree).unwrap();
    for damaged in ["journal.json", "state.json"] {
        let path = host.path("host").join(damaged);
        fs::write(&path, "{ no json").unwrap();
        assert!(matches!(prune(), AgentError::Damaged { .. }));
        fs::remove_file(path).unwrap();
    }
    assert!(tree.exists());
}
