//! Scrubbing: reads everything that is stored, computes its digest once more, sets aside what
//! is damaged, and says which tags that hurts. Run by `jobs`.
//!
//! Damaged is what can be read and is not what its digest says, what is shorter or longer than
//! its record says, and what is missing. What cannot be read at this moment is not: that may be
//! the store's trouble, and is only reported.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use deploy_spec::{Algorithm, Digest, Hasher, Outline, RepositoryName};
use futures::TryStreamExt as _;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{
    Store,
    blobs::{BlobRecord, blob_of},
    collect::{Mode, Pace},
    error::{StoreError, causes},
    keys,
    manifests::{ManifestRecord, manifest_of},
    objects::Object,
    quarantine::Damaged,
    state::{Collectable, Seen, State},
};

/// As many bytes take a turn of the pace; and every object takes one at least.
const TURN: u64 = 64 * 1024;

/// How a scrub goes.
#[derive(Debug)]
pub struct Scrub {
    /// Whether what is damaged is set aside, or only reported.
    pub mode: Mode,
    /// How fast it goes.
    pace: Pace,
}

impl Scrub {
    /// Returns a scrub that reads so many bytes a second at most; 0 is without a bound.
    /// `until` puts a stop into its pace.
    pub fn new(mode: Mode, rate: u64, until: impl FnOnce(Pace) -> Pace) -> Self {
        let turns = match rate {
            0 => 0,
            rate => rate.div_ceil(TURN),
        };
        Self {
            mode,
            pace: until(Pace::per_second(turns)),
        }
    }
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubbed {
    /// Blobs that were read.
    pub blobs: u64,
    /// Manifests that were read.
    pub manifests: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is damaged.
    pub damaged: Vec<Damage>,
    /// What could not be read at this moment, and why.
    pub unreadable: BTreeMap<String, String>,
}

/// Something damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The digest that it should have.
    pub digest: String,
    /// The repository, of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// Where its bytes are now; nothing in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<String>,
    /// Tags that need it, as `repository:tag`.
    pub hurts: BTreeSet<String>,
}

/// What became of a check.
enum Checked {
    Whole,
    Damaged(String),
}

/// Something that was found damaged, before it is set aside.
struct Finding {
    digest: Digest,
    repository: Option<RepositoryName>,
}

impl Store {
    /// Reads and checks everything that is stored. `report` tells what was read so far.
    ///
    /// # Errors
    /// Where listing fails, or [`StoreError::Stopped`].
    pub async fn scrub(
        &self,
        scrub: &Scrub,
        report: &mut (dyn FnMut(&Scrubbed) + Send),
    ) -> Result<Scrubbed, StoreError> {
        let mut done = Scrubbed::default();
        let mut findings: Vec<Finding> = Vec::new();
        let mut listing = self.objects().list(&keys::blobs(), None);
        while let Some(key) = listing.try_next().await? {
            let Some(digest) = keys::blob_of(&key) else {
                continue;
            };
            findings.push(Finding {
                digest,
                repository: None,
            });
            self.scrub_one(scrub, &key, &mut findings, &mut done)
                .await?;
            report(&done);
        }
        let mut listing = self.objects().list(&keys::repositories(), None);
        while let Some(key) = listing.try_next().await? {
            let Some((repository, digest)) = keys::manifest_of(&key) else {
                continue;
            };
            findings.push(Finding {
                digest,
                repository: Some(repository),
            });
            self.scrub_one(scrub, &key, &mut findings, &mut done)
                .await?;
            report(&done);
        }
        if !done.damaged.is_empty() {
            self.find_hurt(scrub, &findings, &mut done).await?;
        }
        Ok(done)
    }

    /// Checks what the last finding is about; takes it back where that is whole.
    async fn scrub_one(
        &self,
        scrub: &Scrub,
        key: &Path,
        findings: &mut Vec<Finding>,
        done: &mut Scrubbed,
    ) -> Result<(), StoreError> {
        let Some(finding) = findings.pop() else {
            return Ok(());
        };
        let checked = match &finding.repository {
            None => self.scrub_blob(scrub, key, &finding.digest, done).await,
            Some(repository) => {
                let one = self.scrub_manifest(scrub, key, repository, &finding.digest, done);
                one.await
            }
        };
        match checked {
            Ok(None) => Ok(()),
            Ok(Some(damage)) => {
                tracing::error!(
                    object = %key,
                    reason = damage.reason,
                    aside = damage.set_aside,
                    "found a damaged object"
                );
                done.damaged.push(damage);
                findings.push(finding);
                Ok(())
            }
            Err(StoreError::Stopped) => Err(StoreError::Stopped),
            Err(error) => {
                tracing::warn!(object = %key, cause = causes(&error), "cannot read an object");
                done.unreadable.insert(key.to_string(), error.to_string());
                Ok(())
            }
        }
    }

    async fn scrub_blob(
        &self,
        scrub: &Scrub,
        key: &Path,
        digest: &Digest,
        done: &mut Scrubbed,
    ) -> Result<Option<Damage>, StoreError> {
        // Twice, where it seems damaged: what is wrong may be on the way, not at its end.
        for attempt in 0..2 {
            scrub.pace.turns(1).await?;
            let Some(object) = self.objects().read_fresh(key).await? else {
                return Ok(None);
            };
            let stand_in = BlobRecord::unreadable(self.now());
            let Some((seen, decoded)) = decode(key, &object, stand_in) else {
                return Ok(None);
            };
            let checked = match decoded {
                Checked::Whole => self.check_blob(scrub, key, digest, &seen, done).await?,
                damaged => damaged,
            };
            let reason = match checked {
                Checked::Whole => {
                    done.blobs += 1;
                    return Ok(None);
                }
                Checked::Damaged(_) if attempt == 0 => continue,
                Checked::Damaged(reason) => reason,
            };
            done.blobs += 1;
            let damaged = Damaged {
                key,
                digest,
                repository: None,
                reason,
                data: seen.header.data.clone(),
                seen,
                bytes: object.bytes,
            };
            return self.report_damage(scrub, damaged).await;
        }
        Ok(None)
    }

    /// Returns whether the bytes of a blob are those that its digest names.
    async fn check_blob(
        &self,
        scrub: &Scrub,
        key: &Path,
        digest: &Digest,
        seen: &Seen<BlobRecord>,
        done: &mut Scrubbed,
    ) -> Result<Checked, StoreError> {
        let blob = match blob_of(key, seen) {
            Ok(blob) => blob,
            Err(error) => return Ok(Checked::Damaged(error.to_string())),
        };
        if let Some(data) = &seen.header.data {
            match self.objects().size(&data.key()).await? {
                None => return Ok(Checked::Damaged("its data is missing".to_owned())),
                Some(size) if size != blob.size => {
                    return Ok(Checked::Damaged(format!(
                        "its data holds {size} of {} bytes",
                        blob.size
                    )));
                }
                Some(_) => {}
            }
        }
        let mut stream = self.read_blob(&blob, 0..blob.size).await?;
        let mut hasher = Hasher::new(digest.algorithm());
        while let Some(piece) = stream.try_next().await? {
            let length = piece.len() as u64;
            scrub.pace.turns(turns_of(length)).await?;
            hasher = super::data::blocking(move || {
                hasher.update(&piece);
                Ok(hasher)
            })
            .await?;
            done.bytes += length;
        }
        Ok(compare(hasher.finish(), digest))
    }

    async fn scrub_manifest(
        &self,
        scrub: &Scrub,
        key: &Path,
        repository: &RepositoryName,
        digest: &Digest,
        done: &mut Scrubbed,
    ) -> Result<Option<Damage>, StoreError> {
        scrub.pace.turns(1).await?;
        let Some(object) = self.objects().read_fresh(key).await? else {
            return Ok(None);
        };
        let length = object.bytes.len() as u64;
        scrub.pace.turns(turns_of(length)).await?;
        done.bytes += length;
        done.manifests += 1;
        let stand_in = ManifestRecord::unreadable(self.now());
        let Some((seen, decoded)) = decode(key, &object, stand_in) else {
            return Ok(None);
        };
        let checked = match decoded {
            Checked::Whole => check_manifest(digest, &seen).await?,
            damaged => damaged,
        };
        let Checked::Damaged(reason) = checked else {
            return Ok(None);
        };
        let damaged = Damaged {
            key,
            digest,
            repository: Some(repository),
            reason,
            seen,
            bytes: object.bytes,
            data: None,
        };
        self.report_damage(scrub, damaged).await
    }

    /// Sets a damaged object aside and reports it; nothing where it has changed meanwhile.
    async fn report_damage<H: Collectable>(
        &self,
        scrub: &Scrub,
        damaged: Damaged<'_, H>,
    ) -> Result<Option<Damage>, StoreError> {
        let mut damage = Damage {
            digest: damaged.digest.to_string(),
            repository: damaged.repository.map(ToString::to_string),
            reason: damaged.reason.clone(),
            set_aside: None,
            hurts: BTreeSet::new(),
        };
        if scrub.mode == Mode::Do {
            let Some(aside) = self.set_aside(damaged).await? else {
                return Ok(None);
            };
            damage.set_aside = Some(aside.to_string());
        }
        Ok(Some(damage))
    }

    /// Finds the tags that need what is damaged.
    async fn find_hurt(
        &self,
        scrub: &Scrub,
        findings: &[Finding],
        done: &mut Scrubbed,
    ) -> Result<(), StoreError> {
        const PAGE: usize = 1000;
        let mut last: Option<RepositoryName> = None;
        loop {
            let page = self.repositories(last.as_ref(), PAGE).await?;
            for repository in &page.items {
                let damaged: HashMap<&Digest, usize> = findings
                    .iter()
                    .enumerate()
                    .filter(|(_, finding)| {
                        (finding.repository.as_ref()).is_none_or(|name| name == repository)
                    })
                    .map(|(index, finding)| (&finding.digest, index))
                    .collect();
                let mut seen: HashMap<Digest, Vec<Digest>> = HashMap::new();
                for (tag, record) in self.all_tags(repository).await? {
                    let needs = self
                        .closure(scrub, repository, record.digest, &mut seen)
                        .await?;
                    for index in needs.iter().filter_map(|digest| damaged.get(digest)) {
                        done.damaged[*index]
                            .hurts
                            .insert(format!("{repository}:{tag}"));
                    }
                }
            }
            last = page.items.last().cloned();
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Returns all that a manifest needs, itself too. `seen` is what was read before.
    async fn closure(
        &self,
        scrub: &Scrub,
        repository: &RepositoryName,
        digest: Digest,
        seen: &mut HashMap<Digest, Vec<Digest>>,
    ) -> Result<HashSet<Digest>, StoreError> {
        let (mut all, mut stack) = (HashSet::new(), vec![digest]);
        while let Some(digest) = stack.pop() {
            if !all.insert(digest.clone()) {
                continue;
            }
            if !seen.contains_key(&digest) {
                scrub.pace.turns(1).await?;
                let key = keys::manifest(repository, &digest);
                let names = match self.look::<ManifestRecord>(&key).await {
                    Ok(Some(found)) => manifest_of(&key, &digest, found)
                        .and_then(|found| {
                            Ok(Outline::parse(Some(&found.media_type), &found.bytes)?)
                        })
                        .map(|outline| {
                            let blobs = outline.config.into_iter().chain(outline.layers);
                            let all = blobs.chain(outline.manifests);
                            all.map(|one| one.digest).collect()
                        })
                        .unwrap_or_default(),
                    Ok(None) | Err(StoreError::Damaged { .. }) => Vec::new(),
                    Err(error) => return Err(error),
                };
                seen.insert(digest.clone(), names);
            }
            stack.extend(seen.get(&digest).into_iter().flatten().cloned());
        }
        Ok(all)
    }
}

fn turns_of(bytes: u64) -> u32 {
    u32::try_from(bytes / TURN).unwrap_or(u32::MAX)
}

fn compare(actual: Digest, expected: &Digest) -> Checked {
    match actual == *expected {
        true => Checked::Whole,
        false => Checked::Damaged(format!("its bytes have digest `{actual}`")),
    }
}

/// Returns an object as it was read, and whether its header is sound; with a header that stands
/// in for it where it is not. Nothing where the object is about to go.
fn decode<H: Collectable>(key: &Path, object: &Object, stand_in: H) -> Option<(Seen<H>, Checked)> {
    let (header, body, decoded) = match H::decode(key, &object.bytes) {
        Ok((header, _)) if header.standing().state == State::Doomed => return None,
        Ok((header, body)) => (header, body, Checked::Whole),
        Err(error) => (stand_in, Bytes::new(), Checked::Damaged(error.to_string())),
    };
    let version = object.version.clone();
    let seen = Seen {
        header,
        body,
        version,
    };
    Some((seen, decoded))
}

/// Returns whether the bytes of a manifest are those that its digest names.
async fn check_manifest(
    digest: &Digest,
    seen: &Seen<ManifestRecord>,
) -> Result<Checked, StoreError> {
    let length = seen.body.len() as u64;
    if length != seen.header.size {
        let reason = format!("it holds {length} of {} bytes", seen.header.size);
        return Ok(Checked::Damaged(reason));
    }
    Ok(compare(hash(digest.algorithm(), &seen.body).await?, digest))
}

async fn hash(algorithm: Algorithm, bytes: &Bytes) -> Result<Digest, StoreError> {
    let bytes = bytes.clone();
    super::data::blocking(move || Ok(Digest::of(algorithm, &bytes))).await
}
