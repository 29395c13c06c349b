//! Damage of each kind: found, set aside, reported with the tags that it hurts, and healed by
//! the next push.

use std::path::{Path, PathBuf};

use deploy_registry::{
    Store, StoreError,
    store::{
        Collection, Condition, Damage, Mode, NewManifest, Others, Pace, Progress, Scrub, Scrubbed,
    },
};
use deploy_spec::Digest;
use jiff::SignedDuration;

use crate::harness::{body, content, image, name, read};

const REPOSITORY: &str = "configs/site";

async fn put_blob(store: &Store, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let pieces: Vec<&[u8]> = bytes.chunks(10_000).collect();
    store
        .put_blob(&name(REPOSITORY), body(&pieces), &digest)
        .await
        .unwrap();
    digest
}

async fn put_image(store: &Store, reference: &str, layer: &Digest) -> Digest {
    let config = put_blob(store, b"{}").await;
    let new = NewManifest {
        reference: &reference.parse().unwrap(),
        tags: &[],
        content_type: None,
        bytes: image(&config, &[layer]).to_string().into(),
        condition: Condition::None,
    };
    store
        .put_manifest(&name(REPOSITORY), new)
        .await
        .unwrap()
        .digest
}

async fn scrub(store: &Store, mode: Mode) -> Scrubbed {
    store
        .scrub(&Scrub::new(mode, 0, |pace| pace), &mut |_| {})
        .await
        .unwrap()
}

fn files(directory: &Path, tree: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut stack = vec![directory.join(tree)];
    while let Some(at) = stack.pop() {
        let Ok(entries) = std::fs::read_dir(at) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => stack.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files
}

/// The file that publishes a blob.
fn record_of(directory: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    directory.join(format!("blobs/sha256/{}/{hex}", &hex[..2]))
}

/// The file with the data of a large blob.
fn data_of(directory: &Path, digest: &Digest) -> PathBuf {
    let record = std::fs::read(record_of(directory, digest)).unwrap();
    let line = record.split(|byte| *byte == b'\n').next().unwrap();
    let header: serde_json::Value = serde_json::from_slice(line).unwrap();
    let (shard, rest) = header["data"].as_str().unwrap().split_at(2);
    directory.join(format!("data/{shard}/{rest}"))
}

/// Changes the last byte of a file.
fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(file, bytes).unwrap();
}

fn cut(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
}

/// Damages a stored blob of this size, and looks what becomes of it.
async fn damage_and_heal(size: usize, reason: &str, damage: impl Fn(&Path, &Digest)) {
    let directory = tempfile::tempdir().unwrap();
    let bytes = content(size, 1);
    let (layer, other) = {
        let store = Store::open(directory.path()).unwrap();
        let layer = put_blob(&store, &bytes).await;
        let other = put_blob(&store, b"other").await;
        put_image(&store, "v1", &layer).await;
        put_image(&store, "v2", &other).await;
        put_image(&store, "latest", &layer).await;
        assert_eq!(scrub(&store, Mode::Do).await.damaged, []);
        store.settle().await.unwrap();
        (layer, other)
    };
    damage(directory.path(), &layer);
    let store = Store::open(directory.path()).unwrap();
    let repository = name(REPOSITORY);
    let before = files(directory.path(), ".").len();
    let said = scrub(&store, Mode::DryRun).await;
    assert_eq!(files(directory.path(), ".").len(), before);
    let done = scrub(&store, Mode::Do).await;
    let [
        Damage {
            digest,
            reason: found,
            hurts,
            set_aside: Some(_),
            ..
        },
    ] = &done.damaged[..]
    else {
        panic!("{done:?}");
    };
    assert_eq!(said.damaged[0].hurts, *hurts);
    assert_eq!(*digest, layer.to_string());
    assert!(found.contains(reason), "{found}");
    assert!(
        hurts
            .iter()
            .map(String::as_str)
            .eq(["configs/site:latest", "configs/site:v1"])
    );
    assert!(matches!(
        store.blob(&repository, &layer).await,
        Err(StoreError::BlobUnknown(_))
    ));
    assert!(store.blob(&repository, &other).await.is_ok());
    // What it was stays for the operator, whatever is collected meanwhile.
    let collection = Collection {
        grace: SignedDuration::ZERO,
        upload_expiry: SignedDuration::ZERO,
        mode: Mode::Do,
        others: Others::Offline,
        without_tags: Default::default(),
        pace: Pace::unbounded(),
    };
    let kept = files(directory.path(), "data").len();
    for _ in 0..2 {
        store
            .collect(&collection, &Progress::default())
            .await
            .unwrap();
    }
    assert_eq!(files(directory.path(), "data").len(), kept);
    assert_eq!(files(directory.path(), "quarantine").len(), 1);
    put_blob(&store, &bytes).await;
    assert!(read(&store, &repository, &layer).await.unwrap() == bytes);
    assert_eq!(scrub(&store, Mode::Do).await.damaged, []);
    // Until the operator has seen it.
    assert_eq!(store.empty_quarantine().await.unwrap(), 1);
    store
        .collect(&collection, &Progress::default())
        .await
        .unwrap();
    let large = usize::from(size > 65_536);
    assert_eq!(files(directory.path(), "data").len(), large);
    assert!(read(&store, &repository, &layer).await.unwrap() == bytes);
}

#[tokio::test]
async fn changed_bytes_are_found_and_healed() {
    let wrong = "its bytes have digest";
    damage_and_heal(1000, wrong, |directory, digest| {
        flip(&record_of(directory, digest))
    })
    .await;
    damage_and_heal(300_000, wrong, |directory, digest| {
        flip(&data_of(directory, digest))
    })
    .await;
}

#[tokio::test]
async fn short_bytes_are_found_and_healed() {
    damage_and_heal(1000, "it holds 999 of 1000 bytes", |directory, digest| {
        cut(&record_of(directory, digest));
    })
    .await;
    damage_and_heal(300_000, "its data holds 299999", |directory, digest| {
        cut(&data_of(directory, digest));
    })
    .await;
}

#[tokio::test]
async fn missing_data_and_records_that_nobody_can_read_are_found_and_healed() {
    damage_and_heal(300_000, "its data is missing", |directory, digest| {
        std::fs::remove_file(data_of(directory, digest)).unwrap();
    })
    .await;
    damage_and_heal(1000, "damaged", |directory, digest| {
        std::fs::write(record_of(directory, digest), "nonsense").unwrap();
    })
    .await;
}

#[tokio::test]
async fn damaged_manifest_is_set_aside_and_what_it_needs_stays_until_it_is_pushed_again() {
    for how in [flip, cut] {
        let directory = tempfile::tempdir().unwrap();
        let (manifest, layer) = {
            let store = Store::open(directory.path()).unwrap();
            let layer = put_blob(&store, b"layer").await;
            let manifest = put_image(&store, "v1", &layer).await;
            store.settle().await.unwrap();
            (manifest, layer)
        };
        let hex = manifest.hex();
        how(&directory
            .path()
            .join(format!("repos/{REPOSITORY}/_manifests/sha256/{hex}")));
        let store = Store::open(directory.path()).unwrap();
        let repository = name(REPOSITORY);
        let done = scrub(&store, Mode::Do).await;
        assert_eq!(done.damaged.len(), 1);
        assert_eq!(done.damaged[0].repository.as_deref(), Some(REPOSITORY));
        assert!(done.damaged[0].hurts.contains("configs/site:v1"));
        assert!(matches!(
            store.manifest(&repository, &"v1".parse().unwrap()).await,
            Err(StoreError::ManifestUnknown(_))
        ));
        let collection = Collection {
            grace: SignedDuration::ZERO,
            upload_expiry: SignedDuration::ZERO,
            mode: Mode::Do,
            others: Others::Offline,
            without_tags: Default::default(),
            pace: Pace::unbounded(),
        };
        for _ in 0..3 {
            store
                .collect(&collection, &Progress::default())
                .await
                .unwrap();
        }
        assert!(store.blob(&repository, &layer).await.is_ok());
        put_image(&store, "v1", &layer).await;
        assert!(
            store
                .manifest(&repository, &"v1".parse().unwrap())
                .await
                .is_ok()
        );
    }
}
