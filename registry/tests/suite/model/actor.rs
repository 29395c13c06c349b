//! One who acts: pushes, mounts, looks, tags, deletes; or collects. On one replica after the other,
//! since they die.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use deploy_registry::{
    Store, StoreError,
    store::{Collection, Condition, Mode, NewManifest, Others, Pace, Progress},
};
use deploy_spec::{Digest, Reference, RepositoryName};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    GRACE,
    ledger::{BLOBS, Ledger, Promise, blob, check, digest_of, manifest_of},
};
use crate::{
    harness::{INDEX, MANIFEST, body, name, read, tag},
    simulation::World,
};

/// A client goes on within this time from what it was told.
const WITHIN: SignedDuration = SignedDuration::from_mins(50);
const REPOSITORIES: [&str; 2] = ["a", "b/c"];
/// How long the actors act.
const TIME: Duration = Duration::from_secs(12 * 60 * 60);

pub(super) struct Actor {
    pub(super) world: World,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) number: u64,
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
                        "mediaType": INDEX,
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

pub(super) fn collection(grace: SignedDuration) -> Collection {
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
pub(super) async fn act(actor: Actor, is_collector: bool) {
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
