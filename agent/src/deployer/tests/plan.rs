//! What is said of a release before it is deployed, and that saying it changes nothing.

use std::{fs, sync::atomic::Ordering, time::Duration};

use serde_json::{Value, json};

use super::{host::Host, *};
use crate::{
    machine::Exit,
    plan::{Fetching, Plan, Planning},
    source::{Look, Source},
};

async fn plan(host: &Host, fetching: Fetching) -> Result<Value, AgentError> {
    let configuration = "project".parse().unwrap();
    let planning = Planning {
        host: host.visited(),
        configuration: &configuration,
        channel: "latest",
        unpacking: &UnpackOptions::default(),
        fetching,
        gate: host.gate.as_ref(),
        clock: host.clock,
    };
    let plan = Plan::make(&*host.source, &planning).await?;
    Ok(serde_json::to_value(plan).unwrap())
}

/// The number of bytes of each layer of the release that the channel has.
async fn sizes(host: &Host) -> Vec<u64> {
    let look = host.source.look(None, Duration::ZERO).await.unwrap();
    let Look::Manifest { bytes, .. } = look else {
        panic!("there is no release")
    };
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .map(|layer| layer["size"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn plan_says_what_would_come_and_change_and_leaves_the_host_alone() {
    let host = Host::new();
    let error = plan(&host, Fetching::Allowed).await.unwrap_err();
    assert!(matches!(error, AgentError::NoChannel { .. }), "{error}");
    host.release(1);
    let all = sizes(&host).await;
    let first = plan(&host, Fetching::Allowed).await.unwrap();
    assert_eq!(first["deployed"], Value::Null);
    assert_eq!(first["fetch_bytes"], all.iter().sum::<u64>());
    assert_eq!(first["counts"]["added"], 2);
    assert_eq!(first["write"]["bytes"], 8 + 7);
    assert!(!host.path("host").exists());

    assert_eq!(host.look().await, Exit::Success);
    let same = plan(&host, Fetching::Allowed).await.unwrap();
    assert_eq!(
        (&same["fetch_bytes"], &same["changes"]),
        (&json!(0), &json!([]))
    );
    let layers = [
        ("one", "a", "the same"),
        ("two", "b", "b of v2"),
        ("three", "c", "new"),
    ];
    let second = host.release_of(2, &layers);
    let before = fs::read(host.path("host/journal.json")).unwrap();
    let fetched = host.source.fetched.load(Ordering::Relaxed);
    let coming = sizes(&host).await[1..].iter().sum::<u64>();
    let outline = plan(&host, Fetching::Refused).await.unwrap();
    assert_eq!(outline["fetch_bytes"], coming);
    assert_eq!(
        (&outline["counts"], &outline["write"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), fetched);
    let changes = json!([
        {"path": "b", "change": "changed", "kind": "file", "size": 7},
        {"path": "c", "change": "added", "kind": "file", "size": 3},
    ]);
    // The number is the same when it has been fetched for the comparison; then it is nothing.
    for (bytes, fetching) in [(coming, Fetching::Allowed), (0, Fetching::Refused)] {
        let plan = plan(&host, fetching).await.unwrap();
        assert_eq!(plan["fetch_bytes"], bytes);
        assert_eq!(plan["changes"], changes);
        assert_eq!(plan["release"]["id"], second.to_string());
        assert_eq!(plan["deployed"]["release"], "v1");
    }
    assert_eq!(fs::read(host.path("host/journal.json")).unwrap(), before);
    assert!(!host.has_tree(&second));
    assert_eq!(host.look().await, Exit::Success);
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), fetched + 2);
}

#[tokio::test]
async fn damaged_layer_is_fetched_again_for_a_plan() {
    let host = Host::new();
    host.release(1);
    host.look().await;
    for entry in fs::read_dir(host.path("host/cache/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    host.release(2);
    let plan = plan(&host, Fetching::Allowed).await.unwrap();
    let changes = json!([{"path": "b", "change": "changed", "kind": "file", "size": 7}]);
    assert_eq!(plan["changes"], changes);
}

#[tokio::test]
async fn agent_waits_while_somebody_else_has_the_turn() {
    let host = Host::new();
    host.release(1);
    host.look().await;
    let second = host.release(2);
    let place = crate::directory::Place::find(&host.path("host"), None).unwrap();
    let turn = Directory::beside(&place).turn().unwrap().unwrap();
    let looking = host.look();
    let mut looking = std::pin::pin!(looking);
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut looking).await;
    assert!(waited.is_err(), "nothing was waited for");
    assert_eq!(host.runs().len(), 1);
    drop(turn);
    assert_eq!(looking.await, Exit::Success);
    host.assert_on(&second);
}
