//! Many actors over one store at once, interleaved at every operation: those who push, mount,
//! look, tag, delete; two collectors; each dies now and then, or stands still for longer than
//! the grace. Whatever the history: nothing that was acknowledged is lost, and in the end what
//! nobody needs is gone after three rounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use deploy_registry::{
    Store, StoreError,
    store::{Collection, Condition, Mode, NewManifest, Others, Pace, Progress},
};
use deploy_spec::{Digest, Reference, RepositoryName};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    harness::{MANIFEST, body, content, image, name, read, tag},
    simulation::World,
};

const GRACE: SignedDuration = SignedDuration::from_hours(1);
/// A client goes on within this time from what it was told.
const WITHIN: SignedDuration = SignedDuration::from_mins(50);
const REPOSITORIES: [&str; 2] = ["a", "b/c"];
const BLOBS: u64 = 6;
const PUSHERS: u64 = 3;
/// How long the actors act.
const TIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Content number 0 is larger than what a record holds.
fn blob(number: u64) -> Vec<u8> {
    content(if number == 0 { 70_000 } else { 50 }, number + 1)
}

fn digest_of(number: u64) -> Digest {
    Digest::sha256(&blob(number))
}

/// The manifest of these blobs; everybody who pushes them pushes the same one.
fn manifest_of(blobs: &BTreeSet<u64>, subject: Option<&Digest>) -> Value {
    let digests: Vec<Digest> = blobs.iter().map(|number| digest_of(*number)).collect();
    let (config, layers) = digests.split_first().unwrap();
    let mut manifest = image(config, &layers.iter().collect::<Vec<_>>());
    if let Some(subject) = subject {
        manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
    }
    manifest
}

/// What a pusher was promised.
#[derive(Clone, Debug)]
struct Promise {
    manifest: Digest,
    /// The manifest that an index names.
    child: Option<Digest>,
    /// All that it needs.
    blobs: BTreeSet<u64>,
    /// When the push began.
    began: Timestamp,
    generation: u64,
}

/// What everybody knows.
#[derive(Debug, Default)]
struct Ledger {
    promises: BTreeMap<(String, String), Promise>,
    /// Deletions of manifests and blobs: what, and until when they may take effect.
    deletions: Vec<(String, Digest, Option<Timestamp>)>,
    /// How many tags each pusher has removed. It does not use their names again: the deletion
    /// of a replica that died may come late.
    untagged: BTreeMap<u64, u64>,
    generation: u64,
    acknowledged: u64,
    revisited: u64,
}

impl Ledger {
    /// Returns whether somebody may have deleted on purpose what is promised.
    fn is_excused(&self, repository: &str, promise: &Promise) -> bool {
        self.deletions.iter().any(|(place, digest, until)| {
            let concerns = *digest == promise.manifest
                || promise.child.as_ref() == Some(digest)
                || promise.blobs.iter().any(|blob| digest_of(*blob) == *digest);
            concerns && place == repository && until.is_none_or(|until| until >= promise.began)
        })
    }
}

struct Actor {
    world: World,
    ledger: Arc<Mutex<Ledger>>,
    number: u64,
}

type Done = Result<(), StoreError>;

impl Actor {
    fn pick(&self) -> &'static str {
        let place = self.world.below(REPOSITORIES.len() as u64);
        REPOSITORIES[usize::try_from(place).unwrap()]
    }

    async fn rest(&self, most: u64) {
        let seconds = self.world.below(most) + 1;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn label(&self) -> String {
        let ledger = self.ledger.lock().unwrap();
        let untagged = ledger.untagged.get(&self.number).copied().unwrap_or(0);
        format!("t{}-{untagged}-{}", self.number, self.world.below(2))
    }

    /// Makes the blob visible in the repository, by whatever way a client takes.
    async fn bring(&self, store: &Store, repository: &RepositoryName, number: u64) -> Done {
        let (bytes, digest) = (blob(number), digest_of(number));
        let way = self.world.below(4);
        if way < 2 && store.blob(repository, &digest).await.is_ok() {
            return Ok(());
        }
        if way == 2 {
            let from = name(self.pick());
            let from = (self.world.below(2) == 0).then_some(&from);
            if store.mount_blob(repository, from, &digest).await? {
                return Ok(());
            }
        }
        match self.world.below(2) {
            0 => store.put_blob(repository, body(&[&bytes]), &digest).await,
            _ => {
                let (half, rest) = bytes.split_at(bytes.len() / 2);
                let algorithm = digest.algorithm();
                let upload = store.start_upload(repository, algorithm).await?;
                store
                    .append_upload(repository, &upload.id, None, body(&[half]))
                    .await?;
                store
                    .finish_upload(repository, &upload.id, None, body(&[rest]), &digest)
                    .await
            }
        }
    }

    async fn put(
        &self,
        store: &Store,
        repository: &RepositoryName,
        reference: &str,
        manifest: &Value,
    ) -> Result<Digest, StoreError> {
        let new = NewManifest {
            reference: &reference.parse().unwrap(),
            tags: &[],
            content_type: None,
            bytes: serde_json::to_vec(manifest).unwrap().into(),
            condition: Condition::None,
        };
        Ok(store.put_manifest(repository, new).await?.digest)
    }

    /// Pushes an image, an index of two, or what refers to one, and tags it.
    async fn push(&self, store: &Store) -> Done {
        let repository = self.pick();
        let place = name(repository);
        let mut blobs: BTreeSet<u64> = (0..=self.world.below(3))
            .map(|_| self.world.below(BLOBS))
            .collect();
        let label = self.label();
        let key = (repository.to_owned(), label.clone());
        // From here on, the tag may mean either.
        self.ledger.lock().unwrap().promises.remove(&key);
        let began = self.world.now();
        for number in &blobs {
            self.bring(store, &place, *number).await?;
        }
        self.rest(20).await;
        let image = manifest_of(&blobs, None);
        let digest = Digest::sha256(&serde_json::to_vec(&image).unwrap());
        let way = self.world.below(3);
        let child = (way == 0).then(|| digest.clone());
        let other: BTreeSet<u64> = [self.world.below(BLOBS)].into();
        let pushed = async {
            match way {
                0 => {
                    // As clients do that skip what is there.
                    let by_digest = Reference::Digest(digest.clone());
                    if store.resolve(&place, &by_digest).await.is_err() {
                        self.put(store, &place, &digest.to_string(), &image).await?;
                    }
                    let index = json!({
                        "schemaVersion": 2,
                        "mediaType": crate::harness::INDEX,
                        "manifests": [{ "mediaType": MANIFEST, "digest": digest, "size": 1 }],
                    });
                    self.rest(20).await;
                    self.put(store, &place, &label, &index).await
                }
                1 => {
                    for number in &other {
                        self.bring(store, &place, *number).await?;
                    }
                    let refers = manifest_of(&other, Some(&digest));
                    self.put(store, &place, &label, &refers).await
                }
                _ => self.put(store, &place, &label, &image).await,
            }
        };
        let pushed = pushed.await;
        if way == 1 {
            blobs = other;
        }
        let excused = |manifest: &Digest| {
            let promise = Promise {
                manifest: manifest.clone(),
                child: None,
                blobs: blobs.clone(),
                began,
                generation: 0,
            };
            let ledger = self.ledger.lock().unwrap();
            ledger.is_excused(repository, &promise)
        };
        match pushed {
            Ok(manifest) => {
                let mut ledger = self.ledger.lock().unwrap();
                ledger.generation += 1;
                ledger.acknowledged += 1;
                let promise = Promise {
                    manifest,
                    child,
                    blobs,
                    began,
                    generation: ledger.generation,
                };
                ledger.promises.insert(key, promise);
                Ok(())
            }
            Err(StoreError::ContentMissing(missing)) => {
                let took = self.world.now().duration_since(began);
                assert!(
                    took > WITHIN || excused(&digest),
                    "{missing:?} went within {took} of being seen"
                );
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Removes one of its own tags.
    async fn untag(&self, store: &Store) -> Done {
        let repository = self.pick();
        let label = self.label();
        let key = (repository.to_owned(), label.clone());
        {
            let mut ledger = self.ledger.lock().unwrap();
            ledger.promises.remove(&key);
            *ledger.untagged.entry(self.number).or_default() += 1;
        }
        match store.delete_tag(&name(repository), &tag(&label)).await {
            Err(StoreError::ManifestUnknown(_)) => Ok(()),
            done => done,
        }
    }

    /// Deletes a manifest or a blob on purpose, whoever was promised it.
    async fn delete(&self, store: &Store) -> Done {
        let repository = self.pick();
        let blobs: BTreeSet<u64> = [self.world.below(BLOBS)].into();
        let is_blob = self.world.below(3) == 0;
        let digest = match is_blob {
            true => digest_of(*blobs.first().unwrap()),
            false => Digest::sha256(&serde_json::to_vec(&manifest_of(&blobs, None)).unwrap()),
        };
        let place = {
            let mut ledger = self.ledger.lock().unwrap();
            ledger
                .deletions
                .push((repository.to_owned(), digest.clone(), None));
            ledger.deletions.len() - 1
        };
        let done = match is_blob {
            true => store.delete_blob(&name(repository), &digest).await,
            false => store.delete_manifest(&name(repository), &digest).await,
        };
        // Where it fails, the deletion may come late.
        if matches!(
            done,
            Ok(()) | Err(StoreError::ManifestUnknown(_) | StoreError::BlobUnknown(_))
        ) {
            self.ledger.lock().unwrap().deletions[place].2 = Some(self.world.now());
            return Ok(());
        }
        done
    }

    /// Looks whether a promise still holds.
    async fn revisit(&self, store: &Store) {
        let chosen = {
            let ledger = self.ledger.lock().unwrap();
            let count = ledger.promises.len() as u64;
            let skip = self.world.below(count.max(1));
            let skip = usize::try_from(skip).unwrap();
            let chosen = ledger.promises.iter().nth(skip);
            chosen.map(|(key, promise)| (key.clone(), promise.clone()))
        };
        if let Some((key, promise)) = chosen {
            check(store, &self.ledger, &key, &promise).await;
            self.ledger.lock().unwrap().revisited += 1;
        }
    }

    /// Looks at a blob, and comes back for it later.
    async fn come_back(&self, store: &Store) -> Done {
        let repository = self.pick();
        let number = self.world.below(BLOBS);
        let (place, digest) = (name(repository), digest_of(number));
        let began = self.world.now();
        if store.blob(&place, &digest).await.is_err() {
            return Ok(());
        }
        self.rest(30 * 60).await;
        let promise = Promise {
            manifest: digest.clone(),
            child: None,
            blobs: [number].into(),
            began,
            generation: 0,
        };
        match read(store, &place, &digest).await {
            Ok(bytes) => assert!(bytes == blob(number)),
            Err(StoreError::BlobUnknown(_)) => assert!(
                self.world.now().duration_since(began) > WITHIN
                    || self.ledger.lock().unwrap().is_excused(repository, &promise),
                "a blob went that somebody had looked at"
            ),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Checks that a promise holds, unless it ended while we looked.
async fn check(store: &Store, ledger: &Mutex<Ledger>, key: &(String, String), promise: &Promise) {
    let repository = name(&key.0);
    let kept = async {
        let reference = Reference::Tag(tag(&key.1));
        let manifest = store.manifest(&repository, &reference).await?;
        if manifest.digest != promise.manifest {
            return Ok(false);
        }
        // What an index names must be there too.
        let document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
        for child in document["manifests"].as_array().into_iter().flatten() {
            let digest: Digest = child["digest"].as_str().unwrap().parse().unwrap();
            store.manifest(&repository, &digest.into()).await?;
        }
        for number in &promise.blobs {
            let bytes = read(store, &repository, &digest_of(*number)).await?;
            assert!(bytes == blob(*number));
        }
        Ok::<_, StoreError>(true)
    };
    let kept = kept.await;
    let ledger = ledger.lock().unwrap();
    let still = ledger
        .promises
        .get(key)
        .is_some_and(|now| now.generation == promise.generation);
    if still && !ledger.is_excused(&key.0, promise) {
        assert!(matches!(kept, Ok(true)), "{key:?}: {kept:?} {promise:?}");
    }
}

fn collection(grace: SignedDuration) -> Collection {
    Collection {
        grace,
        upload_expiry: GRACE,
        mode: Mode::Do,
        others: Others::Served,
        without_tags: Default::default(),
        pace: Pace::unbounded(),
    }
}

/// Lets an actor act until its time is over; when its replica dies, on another one.
async fn act(actor: Actor, is_collector: bool) {
    let end = tokio::time::Instant::now() + TIME;
    while tokio::time::Instant::now() < end {
        let operations = match actor.world.below(3) {
            0 => usize::try_from(5 + actor.world.below(200)).unwrap(),
            _ => usize::MAX,
        };
        let replica = actor.world.replica(operations);
        let store = replica.store();
        let work = async {
            while tokio::time::Instant::now() < end {
                if is_collector {
                    let progress = Progress::default();
                    let collected = store.collect(&collection(GRACE), &progress).await;
                    assert!(
                        matches!(
                            collected,
                            Ok(()) | Err(StoreError::Removing(_) | StoreError::Contended(_))
                        ),
                        "{collected:?}"
                    );
                    actor.rest(80 * 60).await;
                    continue;
                }
                let done = match actor.world.below(10) {
                    0 => actor.untag(&store).await,
                    1 if actor.number == 0 => actor.delete(&store).await,
                    2 | 3 => actor.come_back(&store).await,
                    4 | 5 => {
                        actor.revisit(&store).await;
                        Ok(())
                    }
                    _ => actor.push(&store).await,
                };
                assert!(
                    matches!(
                        done,
                        Ok(())
                            | Err(StoreError::Removing(_)
                                | StoreError::Contended(_)
                                | StoreError::UploadUnknown(_)
                                | StoreError::UploadBusy)
                    ),
                    "{done:?}"
                );
                actor.rest(15 * 60).await;
            }
        };
        tokio::select! {
            () = work => return,
            () = replica.death() => {}
        }
        actor.rest(60).await;
    }
}

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
