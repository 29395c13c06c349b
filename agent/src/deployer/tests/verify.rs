//! Trees that somebody changed behind the agent's back, and the agent beside that.

use std::{fs, os::unix::fs::PermissionsExt, sync::atomic::Ordering};

use serde_json::{Value, json};

use super::{host::Host, memory::Memory, *};
use crate::{
    machine::Exit,
    verify::{Extra, Verified, Verifying},
};

async fn verify(
    host: &Host,
    source: Option<&Memory>,
    extra: Extra,
    repair: bool,
) -> Result<Value, AgentError> {
    let verifying = Verifying {
        host: host.visited(),
        extra,
        repair,
    };
    let verified = Verified::make(source, &verifying, &Stop::default()).await?;
    assert_eq!(
        verified.to_string().ends_with("nothing drifted\n"),
        serde_json::to_value(&verified).unwrap()["drifts"] == json!([])
    );
    Ok(serde_json::to_value(verified).unwrap())
}

/// Returns each drift as `path: kind kind: outcome`.
fn drifts(verified: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let line = |drift: &Value| {
        let kinds = drift["deviations"].as_array().unwrap().iter();
        let kinds: Vec<_> = kinds.map(|one| text(&one["kind"])).collect();
        let outcome = text(&drift["outcome"]);
        format!("{}: {}: {outcome}", text(&drift["path"]), kinds.join(" "))
    };
    let all = verified["drifts"].as_array().unwrap().iter();
    all.map(line).collect()
}

#[tokio::test]
async fn drifted_tree_is_told_and_restored() {
    let host = Host::new();
    let none: Option<&Memory> = None;
    let error = verify(&host, none, Extra::List, false).await.unwrap_err();
    assert!(matches!(error, AgentError::NoAgent { .. }), "{error}");
    host.look().await;
    let error = verify(&host, none, Extra::List, false).await.unwrap_err();
    assert!(
        matches!(error, AgentError::NothingDeployed { .. }),
        "{error}"
    );
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    let fine = verify(&host, none, Extra::List, false).await.unwrap();
    assert_eq!(
        (drifts(&fine).len(), &fine["files"], &fine["bytes"]),
        (0, &json!(2), &json!(15))
    );

    let tree = host.path("host/unpacked").join(first.file_name());
    fs::write(tree.join("a"), "the sane").unwrap();
    fs::set_permissions(tree.join("b"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(tree.join("logs")).unwrap();
    let expected = ["a: content: found", "b: mode: found", "logs: extra: found"];
    for _ in 0..2 {
        let found = verify(&host, none, Extra::List, false).await.unwrap();
        assert_eq!(drifts(&found), expected);
        assert_eq!(found["drifts"][1]["deviations"][0]["found"], "0600");
        assert_eq!(found["drifted"], 3);
    }
    let found = verify(&host, none, Extra::Ignore, false).await.unwrap();
    assert_eq!(drifts(&found), expected[..2]);
    let mended = verify(&host, none, Extra::List, true).await.unwrap();
    assert_eq!(
        drifts(&mended),
        [
            "a: content: restored",
            "b: mode: restored",
            "logs: extra: left"
        ]
    );
    assert_eq!(mended["drifted"], 1);
    assert_eq!(fs::read_to_string(tree.join("a")).unwrap(), "the same");
    let mended = verify(&host, none, Extra::Remove, true).await.unwrap();
    assert_eq!(
        (drifts(&mended), &mended["drifted"]),
        (vec!["logs: extra: removed".to_owned()], &json!(0))
    );
    let fine = verify(&host, none, Extra::List, false).await.unwrap();
    assert_eq!(fine["drifts"], json!([]));
    host.assert_on(&first);
}

#[tokio::test]
async fn layers_that_are_gone_or_damaged_come_from_the_source() {
    let host = Host::new();
    host.release(1);
    host.look().await;
    let fetched = || host.source.fetched.load(Ordering::Relaxed);
    assert_eq!(fetched(), 2);
    fs::remove_dir_all(host.path("host/cache")).unwrap();
    let none: Option<&Memory> = None;
    let error = verify(&host, none, Extra::List, false).await.unwrap_err();
    assert!(
        matches!(&error, AgentError::NoLayers { layers, .. } if layers == "one:v1, two:v1"),
        "{error}"
    );
    let fine = verify(&host, Some(&*host.source), Extra::List, false)
        .await
        .unwrap();
    assert_eq!((drifts(&fine).len(), fetched()), (0, 4));
    let layer = fs::read_dir(host.path("host/cache/sha256")).unwrap().next();
    let layer = layer.unwrap().unwrap().path();
    let mut bytes = fs::read(&layer).unwrap();
    bytes[20] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let error = verify(&host, none, Extra::List, false).await.unwrap_err();
    assert!(chain(&error).contains("not `sha256:"), "{error:?}");
    let fine = verify(&host, Some(&*host.source), Extra::List, false)
        .await
        .unwrap();
    assert_eq!((drifts(&fine).len(), fetched()), (0, 5));
}

#[tokio::test]
async fn nothing_is_restored_in_the_middle_of_a_deployment() {
    let host = Host::new();
    let first = host.release(1);
    host.look().await;
    let second = host.release(2);
    host.mark("fail", &second);
    assert_eq!(host.look().await, Exit::Failure);
    assert_eq!(host.entry().step, JournalStep::Script);
    let none: Option<&Memory> = None;
    let error = verify(&host, none, Extra::List, true).await.unwrap_err();
    assert!(matches!(error, AgentError::Unfinished { .. }), "{error}");
    let fine = verify(&host, Some(&*host.source), Extra::List, false)
        .await
        .unwrap();
    assert_eq!(fine["deployed"]["id"], first.to_string());
    assert_eq!(fine["drifts"], json!([]));
}

#[tokio::test]
async fn tree_is_compared_with_what_the_flags_were() {
    let host = Host::new();
    let first = host.release(1);
    host.look().await;
    let made = host.entry().deployed.unwrap().made.unwrap();
    let usual = UnpackOptions::default();
    let options = made.options();
    assert_eq!(options.ownership, usual.ownership);
    assert_eq!(options.special_bits, usual.special_bits);
    // A journal of an earlier version says nothing of them.
    let journal = host.path("host/journal.json");
    let mut entry: Value = serde_json::from_slice(&fs::read(&journal).unwrap()).unwrap();
    entry["deployed"]
        .as_object_mut()
        .unwrap()
        .remove("Made")
        .unwrap();
    fs::write(&journal, entry.to_string()).unwrap();
    let none: Option<&Memory> = None;
    let fine = verify(&host, none, Extra::List, false).await.unwrap();
    assert_eq!(fine["drifts"], json!([]));
    host.assert_on(&first);
}
