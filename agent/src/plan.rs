//! What would change if the release that the channel has were deployed now: file by file, and how
//! much would have to come and to be written. Called by `main`.

use std::{collections::HashSet, fmt, time::Duration};

use deploy_spec::{ConfigurationName, Digest, Release};
use deployctl::archive::{Change, ChangeKind, NodeKind, Shown, UnpackOptions, Unpacked};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    admission::{Candidate, Gate, Lack, Vouched},
    cache::Cache,
    content::Content,
    deployer::{CONFIG_MAX, admit, one_line},
    error::AgentError,
    record::{Record, Remembered},
    source::{Look, Source},
    status::{Known, KnownSigner, printable},
    visit::{Host, Visit},
};

/// What is looked at, and how.
#[derive(Clone, Copy, Debug)]
pub struct Planning<'a> {
    /// Where.
    pub host: Host<'a>,
    /// The configuration.
    pub configuration: &'a ConfigurationName,
    /// The channel, for the record.
    pub channel: &'a str,
    /// How layers would be unpacked.
    pub unpacking: &'a UnpackOptions,
    /// Whether missing layers may come.
    pub fetching: Fetching,
    /// What signatures are asked for, where some are.
    pub gate: Option<&'a Gate>,
    /// The time.
    pub clock: fn() -> Timestamp,
}

/// What becomes of layers that are not in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetching {
    /// They come into the cache, where a deployment finds them.
    Allowed,
    /// They stay away, and files are not compared where some are missing.
    Refused,
}

/// What a deployment would do. Displays as lines for people; serialises as JSON for scripts, with
/// every field always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What is deployed.
    deployed: Option<Known>,
    /// What the channel has.
    release: Known,
    /// Why it would not be deployed, where it is on the bad-list.
    bad: Option<String>,
    /// Whether its signatures would let it in, where that is asked.
    signature: Option<Judged>,
    /// Layers, lowest first.
    layers: Vec<PlannedLayer>,
    /// Bytes that had to come before anything was fetched for this plan.
    fetch_bytes: u64,
    /// What would be written, where that is known.
    write: Option<Written>,
    /// How many names differ, where they were compared.
    counts: Option<Counts>,
    /// The names that differ, from the root down.
    changes: Vec<PlannedChange>,
}

/// What signatures come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Judged {
    accepted: bool,
    /// Who vouches for it.
    signed: Option<KnownSigner>,
    /// Why nobody does.
    why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PlannedLayer {
    component: String,
    version: String,
    digest: Digest,
    size: u64,
    /// Bytes of it that had to come.
    missing: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Written {
    files: u64,
    directories: u64,
    links: u64,
    bytes: u64,
    /// Devices and named pipes of an image, which no tree has.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    added: u64,
    changed: u64,
    removed: u64,
    metadata: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PlannedChange {
    path: String,
    change: &'static str,
    kind: &'static str,
    size: u64,
}

impl Plan {
    /// Returns what deploying the channel's release would do. Nothing on the host changes, but for
    /// layers that come into the cache where that is allowed; where no agent has ever worked they
    /// come to a temporary place and go again. The agent does nothing meanwhile.
    ///
    /// # Errors
    /// [`AgentError::NoChannel`], [`AgentError::Busy`], and what befalls the source, the documents
    /// and the layers.
    pub async fn make<S: Source>(source: &S, planning: &Planning<'_>) -> Result<Self, AgentError> {
        let found = source.look(None, Duration::ZERO).await?;
        let Look::Manifest { id, bytes } = found else {
            return Err(AgentError::NoChannel {
                name: source.name(),
            });
        };
        let failed = |source| AgentError::Release {
            id: id.clone(),
            source,
        };
        let config = Release::config_of(&bytes).map_err(failed)?;
        let config = source.document(&config, CONFIG_MAX).await?;
        let release = Release::parse(planning.configuration.clone(), &bytes, &config);
        let release = release.map_err(failed)?;
        let visit = match Visit::enter(&planning.host) {
            Err(AgentError::NoAgent { .. }) => None,
            visit => Some(visit?),
        };
        let scratch = match &visit {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(AgentError::io(
                "create a directory in",
                std::env::temp_dir(),
            ))?),
        };
        let cache = match (&visit, &scratch) {
            (Some(visit), _) => Cache::of(&visit.directory),
            (None, Some(scratch)) => Cache::at(scratch.path()),
            (None, None) => Cache::at(planning.host.directory),
        };
        let deployed = visit.as_ref().and_then(|visit| visit.deployed().ok());
        let has_tree = visit
            .as_ref()
            .is_some_and(|visit| visit.directory.has_tree(&id));
        let mut plan = Self::outline(&id, &release, planning, deployed, &cache, has_tree);
        plan.bad = visit.as_ref().and_then(|visit| {
            let bad = visit.entry.bad.iter().find(|bad| bad.id == id)?;
            Some(bad.why.clone())
        });
        if let Some(gate) = planning.gate {
            let signatures = source.signatures(&id).await?;
            let candidate = Candidate {
                id: &id,
                number: admit::number(&bytes),
                signatures: &signatures,
            };
            let entry = visit.as_ref().map(|visit| &visit.entry);
            let before = entry.and_then(|entry| admit::before(entry, gate));
            let judged = gate.judge(&candidate, before.as_ref(), (planning.clock)());
            plan.signature = Some(Judged::from(judged.map(|(vouched, _)| vouched)));
        }
        if deployed.is_some_and(|deployed| deployed.record.id == id) {
            plan.write = Some(Written::default());
            plan.counts = Some(Counts::default());
            return Ok(plan);
        }
        let refused = planning.fetching == Fetching::Refused;
        let absent = |digest: &Digest, size| !cache.has(digest, size);
        let new_absent =
            (release.layers.iter()).any(|layer| absent(&layer.digest, Some(layer.size)));
        let old_absent = deployed.is_some_and(|deployed| {
            let layers = &deployed.record.layers;
            layers.iter().any(|layer| absent(&layer.digest, layer.size))
        });
        if refused && (new_absent || old_absent) {
            return Ok(plan);
        }
        let content = Content::of(&id, &release);
        let (_, new) = content
            .describe(&cache, Some(source), planning.unpacking)
            .await?;
        plan.write = Some(match has_tree {
            true => Written::default(),
            false => Written::of(&new.summary()),
        });
        let old = match deployed {
            Some(deployed) => {
                let made = deployed.made.as_ref().map(|made| made.options());
                let options = made.as_ref().unwrap_or(planning.unpacking);
                let content = Content::recorded(&deployed.record);
                Some(content.describe(&cache, Some(source), options).await?.1)
            }
            None => None,
        };
        plan.compare(&new.changes_since(old.as_ref()));
        Ok(plan)
    }

    /// Returns what is known before any layer is read.
    fn outline(
        id: &Digest,
        release: &Release,
        planning: &Planning<'_>,
        deployed: Option<&Remembered>,
        cache: &Cache,
        has_tree: bool,
    ) -> Self {
        let mut known = HashSet::new();
        let layer = |layer: &deploy_spec::ReleaseLayer| PlannedLayer {
            component: layer.component.to_string(),
            version: layer.version.to_string(),
            digest: layer.digest.clone(),
            size: layer.size,
            // One blob comes once, and none where the tree is there.
            missing: match known.insert(layer.digest.clone()) && !has_tree {
                true => (cache.missing(&layer.digest, layer.size)).unwrap_or_default(),
                false => 0,
            },
        };
        let layers: Vec<_> = release.layers.iter().map(layer).collect();
        Self {
            deployed: deployed.cloned().map(Known::from),
            release: Known::from(Remembered::from(Record::of(id, release, planning.channel))),
            bad: None,
            signature: None,
            fetch_bytes: layers.iter().map(|layer| layer.missing).sum(),
            layers,
            write: None,
            counts: None,
            changes: Vec::new(),
        }
    }

    fn compare(&mut self, changes: &[Change]) {
        let mut counts = Counts::default();
        for Change { kind, .. } in changes {
            match kind {
                ChangeKind::Added => counts.added += 1,
                ChangeKind::Removed => counts.removed += 1,
                ChangeKind::Changed => counts.changed += 1,
                ChangeKind::Metadata => counts.metadata += 1,
            }
        }
        self.counts = Some(counts);
        self.changes = changes.iter().map(PlannedChange::from).collect();
    }

    /// Whether another release is deployed than the channel has, or none.
    pub fn changes_something(&self) -> bool {
        let deployed = self.deployed.as_ref();
        deployed.is_none_or(|deployed| deployed.id != self.release.id)
    }
}

impl From<Result<Vouched, Lack>> for Judged {
    fn from(judged: Result<Vouched, Lack>) -> Self {
        let (signed, why) = match judged {
            Ok(vouched) => (Some(KnownSigner::from(vouched)), None),
            Err(lack) => (None, Some(one_line(&lack.to_string()))),
        };
        Self {
            accepted: signed.is_some(),
            signed,
            why,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Written {
    fn of(unpacked: &Unpacked) -> Self {
        Self {
            files: unpacked.files,
            directories: unpacked.directories,
            links: unpacked.hard_links + unpacked.symlinks,
            bytes: unpacked.bytes,
            left_out: unpacked.left_out,
        }
    }
}

impl From<&Change> for PlannedChange {
    fn from(change: &Change) -> Self {
        Self {
            path: Shown(&change.path).to_string(),
            change: match change.kind {
                ChangeKind::Added => "added",
                ChangeKind::Removed => "removed",
                ChangeKind::Changed => "changed",
                ChangeKind::Metadata => "metadata",
            },
            kind: match change.what {
                NodeKind::Directory => "directory",
                NodeKind::File => "file",
                NodeKind::Symlink => "symlink",
            },
            size: change.size,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.deployed {
            Some(known) => writeln!(formatter, "deployed: {known}")?,
            None => writeln!(formatter, "deployed: nothing")?,
        }
        writeln!(formatter, "channel: {}", self.release)?;
        if let Some(judged) = &self.signature {
            match (&judged.signed, &judged.why) {
                (Some(signed), _) => writeln!(formatter, "signed: {signed}")?,
                (None, why) => {
                    let why = printable(why.as_deref().unwrap_or_default());
                    writeln!(formatter, "refused: it would not be deployed: {why}")?;
                }
            }
        }
        if !self.changes_something() {
            return writeln!(formatter, "nothing would change");
        }
        if let Some(why) = &self.bad {
            writeln!(
                formatter,
                "bad: it would not be deployed: {}",
                printable(why)
            )?;
            writeln!(formatter, "hint: `deploy-agent retry` has it tried again")?;
        }
        let count = self.layers.iter().filter(|layer| layer.missing > 0).count();
        let (all, bytes) = (self.layers.len(), self.fetch_bytes);
        writeln!(
            formatter,
            "to fetch: {bytes} bytes, {count} of {all} layers"
        )?;
        for layer in self.layers.iter().filter(|layer| layer.missing > 0) {
            let (name, version) = (&layer.component, &layer.version);
            writeln!(formatter, "  {name}:{version} {} bytes", layer.missing)?;
        }
        let (Some(write), Some(counts)) = (&self.write, &self.counts) else {
            return writeln!(
                formatter,
                "files are not compared: layers are missing\nhint: without -no-fetch they come into the cache, and are compared"
            );
        };
        writeln!(
            formatter,
            "to write: {} bytes, {} files, {} directories, {} links",
            write.bytes, write.files, write.directories, write.links
        )?;
        if write.left_out > 0 {
            let count = write.left_out;
            writeln!(
                formatter,
                "left out: {count} devices and named pipes of the image"
            )?;
        }
        writeln!(
            formatter,
            "changes: {} added, {} changed, {} removed, {} with other mode, owner, time or attributes",
            counts.added, counts.changed, counts.removed, counts.metadata
        )?;
        for change in &self.changes {
            let sign = match change.change {
                "added" => '+',
                "removed" => '-',
                "changed" => '~',
                _ => 'm',
            };
            match (change.kind, change.change) {
                ("file", "added" | "changed") => {
                    writeln!(formatter, "{sign} {} {} bytes", change.path, change.size)?
                }
                ("directory", _) => writeln!(formatter, "{sign} {}/", change.path)?,
                _ => writeln!(formatter, "{sign} {}", change.path)?,
            }
        }
        Ok(())
    }
}
