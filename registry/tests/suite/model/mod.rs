//! Many actors over one store at once, interleaved at every operation: those who push, mount,
//! look, tag, delete; two collectors; each dies now and then, or stands still for longer than
//! the grace. Whatever the history: nothing that was acknowledged is lost, and in the end what
//! nobody needs is gone after three rounds.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use deploy_registry::{Store, store::Progress};
use deploy_spec::Digest;
use jiff::SignedDuration;
use serde_json::Value;

use crate::simulation::World;

mod actor;
mod ledger;

use actor::{Actor, act, collection};
use ledger::{Ledger, check, digest_of};

const GRACE: SignedDuration = SignedDuration::from_hours(1);
const PUSHERS: u64 = 3;

/// Returns the keys that the store should hold for what is tagged.
async fn needed(store: &Store) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for repository in store.repositories(None, 10).await.unwrap().items {
        let mut wanted = Vec::new();
        for (tag, record) in store.all_tags(&repository).await.unwrap() {
            keys.insert(format!("repos/{repository}/_tags/{tag}"));
            wanted.push(record.digest);
        }
        while let Some(digest) = wanted.pop() {
            let key = format!("repos/{repository}/_manifests/sha256/{}", digest.hex());
            let Ok(manifest) = store.manifest(&repository, &digest.clone().into()).await else {
                continue;
            };
            if !keys.insert(key) {
                continue;
            }
            let document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
            let digest_at =
                |value: &Value| -> Digest { value["digest"].as_str().unwrap().parse().unwrap() };
            let list = |part: &str| document[part].as_array().cloned().unwrap_or_default();
            wanted.extend(list("manifests").iter().map(digest_at));
            for part in list("layers").iter().chain(document.get("config")) {
                let blob = digest_at(part);
                let hex = blob.hex();
                if store.blob(&repository, &blob).await.is_err() {
                    continue;
                }
                keys.insert(format!("repos/{repository}/_blobs/sha256/{hex}"));
                keys.insert(format!("blobs/sha256/{}/{hex}", &hex[..2]));
            }
            if let Some(subject) = document.get("subject") {
                let (subject, hex) = (digest_at(subject), digest.hex());
                let subject_hex = subject.hex();
                keys.insert(format!(
                    "repos/{repository}/_referrers/sha256/{subject_hex}/sha256/{hex}"
                ));
                wanted.push(subject);
            }
            let listed = store
                .referrers(&repository, &digest, None, None, 100)
                .await
                .unwrap();
            wanted.extend(listed.manifests.into_iter().map(|found| found.digest));
            let entry = repository.as_str().replace('/', ".");
            keys.insert(format!("catalog/{entry}"));
        }
    }
    keys
}

fn history(seed: u64, pause: Duration) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(seed);
        world.pause_for(pause);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let actors = (0..PUSHERS + 2).map(|number| {
            let actor = Actor {
                world: world.clone(),
                ledger: ledger.clone(),
                number,
            };
            tokio::spawn(act(actor, number >= PUSHERS))
        });
        for done in futures::future::join_all(actors.collect::<Vec<_>>()).await {
            done.unwrap();
        }
        // Deletes that are on their way arrive or are refused.
        tokio::time::sleep(Duration::from_secs(30 * 60)).await;
        world.pause_for(Duration::ZERO);
        let store = world.replica(usize::MAX).store();
        let promises = ledger.lock().unwrap().promises.clone();
        for (key, promise) in &promises {
            check(&store, &ledger, key, promise).await;
        }
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(61 * 60)).await;
            store
                .collect(&collection(GRACE), &Progress::default())
                .await
                .unwrap();
        }
        for (key, promise) in &promises {
            check(&store, &ledger, key, promise).await;
        }
        let needed = needed(&store).await;
        let (mut data, mut records) = (0, BTreeSet::new());
        for key in world.keys().await {
            match key.split('/').next() {
                Some("data") => data += 1,
                Some("upkeep") => {}
                _ => {
                    records.insert(key);
                }
            }
        }
        assert_eq!(records, needed);
        let large = digest_of(0);
        let expected = needed
            .iter()
            .any(|key| key.starts_with("blobs/") && key.ends_with(large.hex()));
        assert_eq!(data, usize::from(expected));
        let ledger = ledger.lock().unwrap();
        (ledger.acknowledged, ledger.revisited)
    })
}

/// Histories that are tried; many more where there is time.
fn histories() -> u64 {
    match std::env::var_os("DEPLOY_TESTS_LONG") {
        Some(_) => 150,
        None => 12,
    }
}

fn try_histories(first: u64, pause: Duration) {
    let (mut acknowledged, mut revisited) = (0, 0);
    for seed in first..first + histories() {
        let tried = std::panic::catch_unwind(|| history(seed, pause));
        let Ok((pushes, visits)) = tried else {
            panic!("the history of seed {seed} went wrong, see above");
        };
        acknowledged += pushes;
        revisited += visits;
    }
    assert!(acknowledged > 10 * histories() && revisited > histories());
}

#[test]
fn nothing_acknowledged_is_lost_whatever_happens_at_the_same_time() {
    try_histories(1, Duration::ZERO);
}

#[test]
fn nothing_acknowledged_is_lost_where_some_stand_still_for_longer_than_the_grace() {
    try_histories(1_000_000, Duration::from_secs(3 * 60 * 60));
}
