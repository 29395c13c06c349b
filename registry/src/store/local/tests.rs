//! What a directory promises: rounds that many share, conditions within a round, what is there
//! after a crash, and what a disk that fails does to those who wait.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path as FilePath,
};

use futures::{StreamExt as _, TryStreamExt as _, future::join_all};
use object_store::UpdateVersion;

use super::{
    journal::{Batch, Change, Journal},
    *,
};

fn open(directory: &FilePath) -> LocalDirectory {
    LocalDirectory::open(directory).unwrap()
}

async fn put(
    store: &LocalDirectory,
    key: &str,
    bytes: &'static str,
    mode: PutMode,
) -> Result<PutResult> {
    store
        .put_opts(&Path::from(key), bytes.into(), mode.into())
        .await
}

async fn read(store: &LocalDirectory, key: &str) -> Option<Bytes> {
    read_with(store, key, GetOptions::default()).await
}

async fn read_with(store: &LocalDirectory, key: &str, options: GetOptions) -> Option<Bytes> {
    match store.get_opts(&Path::from(key), options).await {
        Ok(found) => Some(found.bytes().await.unwrap()),
        Err(Error::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn keys(store: &LocalDirectory, prefix: &str) -> Vec<String> {
    let keys = store.keys(&Path::from(prefix), None);
    keys.map_ok(String::from).try_collect().await.unwrap()
}

#[tokio::test]
async fn of_many_creators_in_one_round_one_wins_and_everybody_sees_its_object() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for round in 0..20 {
        let key = format!("d/{round}");
        let tries = ["0", "1", "2", "3", "4", "5", "6", "7"]
            .map(|bytes| put(&store, &key, bytes, PutMode::Create));
        let done = join_all(tries).await;
        let won: Vec<usize> = (0..8).filter(|index| done[*index].is_ok()).collect();
        assert_eq!(won.len(), 1);
        for lost in done.into_iter().filter_map(Result::err) {
            assert!(matches!(lost, Error::AlreadyExists { .. }), "{lost}");
        }
        assert_eq!(read(&store, &key).await.unwrap(), won[0].to_string());
    }
}

#[tokio::test]
async fn of_many_updates_of_one_state_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut state = put(&store, "k", "", PutMode::Overwrite)
        .await
        .unwrap()
        .e_tag;
    for _ in 0..20 {
        let version = || UpdateVersion {
            e_tag: state.clone(),
            version: None,
        };
        let tries =
            ["0", "1", "2", "3"].map(|bytes| put(&store, "k", bytes, PutMode::Update(version())));
        let done = join_all(tries).await;
        let won: Vec<_> = done.iter().filter_map(|done| done.as_ref().ok()).collect();
        assert_eq!(won.len(), 1);
        let next = won[0].e_tag.clone();
        let key = Path::from("k");
        assert_eq!(store.head(&key).await.unwrap().e_tag, next);
        assert!(
            !store
                .remove_if(&key, state.as_deref().unwrap())
                .await
                .unwrap()
        );
        state = next;
    }
    let key = Path::from("k");
    assert!(
        store
            .remove_if(&key, state.as_deref().unwrap())
            .await
            .unwrap()
    );
    assert!(
        !store
            .remove_if(&key, state.as_deref().unwrap())
            .await
            .unwrap()
    );
    assert_eq!(read(&store, "k").await, None);
}

#[tokio::test]
async fn memory_says_what_the_disk_says_whatever_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut random = 1_u64;
    for step in 0..600 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = format!("d/{}/{}", random % 3, random / 3 % 4);
        match random / 16 % 4 {
            0 => drop(put(&store, &key, "new", PutMode::Create).await),
            1 => drop(put(&store, &key, "over", PutMode::Overwrite).await),
            2 => drop(store.delete(&Path::from(key.as_str())).await),
            _ => drop(keys(&store, &format!("d/{}", random % 3)).await),
        }
        let mut fresh = GetOptions::default();
        fresh.extensions.insert(Fresh);
        let on_disk = read_with(&store, &key, fresh).await;
        assert_eq!(read(&store, &key).await, on_disk, "{step}");
        if step % 20 == 0 {
            let listed = store.list(None).map_ok(|meta| String::from(meta.location));
            let listed: Vec<String> = listed.try_collect().await.unwrap();
            let again = Tree::new(directory.path().canonicalize().unwrap());
            let mut walk = Walk::new("", None);
            let there: Vec<String> = std::iter::from_fn(|| walk.next(&again).unwrap()).collect();
            assert_eq!(listed, there);
            assert_eq!(keys(&store, "").await, there);
        }
    }
}

#[tokio::test]
async fn what_the_journal_holds_is_done_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for key in ["a/old", "a/torn", "a/gone"] {
        put(&store, key, "old", PutMode::Create).await.unwrap();
    }
    store.settle().await.unwrap();
    drop(store);
    // A process dies behind the sync of a round, before its files are in their places.
    let (mut journal, nothing) = Journal::open(&directory.path().join(JOURNAL)).unwrap();
    assert!(nothing.is_empty());
    let mut batch = Batch::new();
    let now = std::time::SystemTime::now();
    batch.put("a/old", now, b"new");
    batch.put("a/b/c/created", now, b"");
    batch.put("a/torn", now, b"whole");
    batch.remove("a/gone");
    batch.remove("a/was/never");
    journal.append(&mut batch).unwrap();
    drop(journal);
    // A loss of power takes the bytes of a file that has its name already.
    fs::write(directory.path().join("a/torn"), "").unwrap();
    for _ in 0..2 {
        let store = open(directory.path());
        assert_eq!(read(&store, "a/old").await.unwrap(), "new");
        assert_eq!(read(&store, "a/b/c/created").await.unwrap(), "");
        assert_eq!(read(&store, "a/torn").await.unwrap(), "whole");
        assert_eq!(
            keys(&store, "a").await,
            ["a/b/c/created", "a/old", "a/torn"]
        );
    }
}

#[tokio::test]
async fn what_is_at_its_place_already_is_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for key in ["kept", "zeroed", "empty"] {
        let bytes = if key == "empty" { "" } else { "content" };
        put(&store, key, bytes, PutMode::Create).await.unwrap();
    }
    // Without a settled journal: as if the process had been killed.
    drop(store);
    let path = |key: &str| directory.path().join(key);
    // A loss of power may take bytes and leave name, length and time.
    let time = fs::metadata(path("zeroed")).unwrap().modified().unwrap();
    fs::write(path("zeroed"), [0; 7]).unwrap();
    let zeroed = fs::File::options().write(true).open(path("zeroed"));
    zeroed.unwrap().set_modified(time).unwrap();
    let inodes = || ["kept", "zeroed", "empty"].map(|key| fs::metadata(path(key)).unwrap().ino());
    let before = inodes();
    let store = open(directory.path());
    let after = inodes();
    assert_eq!((before[0], before[2]), (after[0], after[2]));
    assert_ne!(before[1], after[1]);
    assert_eq!(read(&store, "kept").await.unwrap(), "content");
    assert_eq!(read(&store, "zeroed").await.unwrap(), "content");
}

#[tokio::test]
async fn change_that_fails_behind_its_sync_is_not_done_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for key in ["a/b", "e/f"] {
        put(&store, key, "old", PutMode::Create).await.unwrap();
    }
    // In one round, which is durable before anybody meets the directory, or the file, that is
    // in the way.
    let tries = [
        ("before", "1"),
        ("a", "2"),
        ("e", ""),
        ("a/b/c", "3"),
        ("behind", "4"),
    ]
    .map(|(key, bytes)| put(&store, key, bytes, PutMode::Create));
    let done = join_all(tries).await;
    let succeeded: Vec<bool> = done.iter().map(Result::is_ok).collect();
    assert_eq!(succeeded, [true, false, false, false, true]);
    let left = ["a/b", "before", "behind", "e/f"];
    // In memory, on the disk, and in what is done again.
    assert_eq!(keys(&store, "").await, left);
    assert_eq!(keys_on_disk(directory.path(), ""), left);
    let staged = fs::read_dir(directory.path().join(STAGING)).unwrap();
    assert_eq!(staged.count(), 0);
    drop(store);
    let (_, changes) = Journal::open(&directory.path().join(JOURNAL)).unwrap();
    let put_again = |change: &Change| match change {
        Change::Put { key, .. } => key.clone(),
        other => panic!("{other:?}"),
    };
    let mut put_again: Vec<String> = changes.iter().map(put_again).collect();
    put_again.sort();
    assert_eq!(put_again, left);
    let store = open(directory.path());
    assert_eq!(keys(&store, "").await, left);
    assert_eq!(read(&store, "behind").await.unwrap(), "4");
    put(&store, "a/b", "new", PutMode::Overwrite).await.unwrap();
    assert_eq!(read(&store, "a/b").await.unwrap(), "new");
}

#[tokio::test]
async fn journal_fills_turns_and_holds_nothing_once_all_is_at_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let bytes = Bytes::from(vec![7; 1024 * 1024]);
    // Both files of the journal, and the first one again.
    for round in 0..9 {
        let puts = (0..10).map(|number| {
            let key = Path::from(format!("d/{round}/{number}"));
            let (store, bytes) = (store.clone(), bytes.clone());
            async move { store.put(&key, bytes.into()).await }
        });
        futures::future::try_join_all(puts).await.unwrap();
    }
    drop(store);
    let journal = directory.path().join(JOURNAL);
    let (_, changes) = Journal::open(&journal).unwrap();
    assert!(
        changes.len() > 30 && changes.len() < 90,
        "{}",
        changes.len()
    );
    let store = open(directory.path());
    assert_eq!(keys(&store, "d").await.len(), 90);
    assert_eq!(read(&store, "d/0/0").await.unwrap(), bytes);
    put(&store, "last", "1", PutMode::Create).await.unwrap();
    store.settle().await.unwrap();
    drop(store);
    assert!(Journal::open(&journal).unwrap().1.is_empty());
    assert_eq!(keys(&open(directory.path()), "d").await.len(), 90);
}

#[tokio::test]
async fn relaxed_objects_live_in_memory_until_they_are_written_to_or_all_is_settled() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let relaxed = || {
        let mut options = PutOptions::default();
        options.extensions.insert(Relaxed);
        options
    };
    let files = || keys_on_disk(directory.path(), "u");
    for key in ["u/forgotten", "u/updated", "u/kept"] {
        let key = Path::from(key);
        store.put_opts(&key, "0".into(), relaxed()).await.unwrap();
    }
    assert_eq!(files(), [""; 0]);
    assert_eq!(
        keys(&store, "u").await,
        ["u/forgotten", "u/kept", "u/updated"]
    );
    store
        .inner()
        .forget(&Path::from("u/forgotten"))
        .await
        .unwrap();
    let version = store.head(&Path::from("u/updated")).await.unwrap();
    let version = UpdateVersion {
        e_tag: version.e_tag,
        version: None,
    };
    put(&store, "u/updated", "1", PutMode::Update(version))
        .await
        .unwrap();
    assert_eq!(files(), ["u/updated"]);
    assert_eq!(keys(&store, "u").await, ["u/kept", "u/updated"]);
    store.settle().await.unwrap();
    assert_eq!(files(), ["u/kept", "u/updated"]);
    for key in ["u/kept", "u/updated"] {
        store.delete(&Path::from(key)).await.unwrap();
    }
    assert_eq!((files(), keys(&store, "u").await), (vec![], vec![]));
}

fn keys_on_disk(directory: &FilePath, prefix: &str) -> Vec<String> {
    let tree = Tree::new(directory.canonicalize().unwrap());
    let mut walk = Walk::new(prefix, None);
    std::iter::from_fn(|| walk.next(&tree).unwrap()).collect()
}

/// A directory whose journal is written to `device`.
fn with_journal_on(device: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("there"), "1").unwrap();
    fs::create_dir(directory.path().join(JOURNAL)).unwrap();
    for name in ["0", "1"] {
        symlink(device, directory.path().join(JOURNAL).join(name)).unwrap();
    }
    directory
}

async fn assert_all_fail(directory: &FilePath, is_full: bool) {
    let store = open(directory);
    for _ in 0..2 {
        let names = ["a", "b", "c", "d", "there"];
        let tries = names.map(|key| put(&store, key, "2", PutMode::Overwrite));
        for done in join_all(tries).await {
            let error = StoreError::from(done.unwrap_err());
            assert_eq!(matches!(error, StoreError::Full), is_full, "{error:?}");
        }
        assert!(store.delete(&Path::from("there")).await.is_err());
        assert_eq!(read(&store, "there").await.unwrap(), "1");
        assert_eq!(keys(&store, "").await, ["there"]);
        let staged = fs::read_dir(directory.join(STAGING)).unwrap().count();
        assert_eq!(staged, 0);
    }
}

#[tokio::test]
async fn full_disk_fails_everybody_in_the_round_and_leaves_nothing() {
    assert_all_fail(with_journal_on("/dev/full").path(), true).await;
}

#[tokio::test]
async fn sync_that_fails_fails_everybody_in_the_round_and_all_later_ones() {
    // A device that cannot be synced.
    assert_all_fail(with_journal_on("/dev/null").path(), false).await;
}

#[tokio::test]
async fn stream_of_deletions_shares_rounds() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let all: Vec<Path> = (0..50)
        .map(|number| Path::from(format!("d/{number}")))
        .collect();
    for key in &all {
        store.put(key, "x".into()).await.unwrap();
    }
    let gone = store.delete_stream(futures::stream::iter(all.clone()).map(Ok).boxed());
    assert_eq!(gone.try_collect::<Vec<_>>().await.unwrap(), all);
    assert_eq!(keys(&store, "d").await, [""; 0]);
}
