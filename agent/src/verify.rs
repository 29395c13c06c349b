//! Whether the tree of the deployed release is what its layers make, and bringing it back to that.
//! Called by `main`.

use std::{fmt, path::Path, sync::Arc};

use deployctl::archive::{
    Described, Deviation, Drift, Extras, Layers, Limits, Ownership, Repair, Repaired, Shown,
    UnpackOptions, repair,
};
use serde::Serialize;

use crate::{
    cache::Cache,
    content::Content,
    error::AgentError,
    record::Remembered,
    source::Source,
    status::Known,
    stop::Stop,
    visit::{Host, Visit},
};

/// What is looked at, and what is done about it.
#[derive(Clone, Copy, Debug)]
pub struct Verifying<'a> {
    /// Where.
    pub host: Host<'a>,
    /// What becomes of names that the release does not have.
    pub extra: Extra,
    /// Whether what drifted is restored.
    pub repair: bool,
}

/// What becomes of names that the release does not have: what a script wrote into the tree, or
/// somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// They are not spoken of.
    Ignore,
    /// They are listed, and stay.
    List,
    /// They are listed, and removed where the tree is repaired.
    Remove,
}

/// What a tree proved to be. Displays as lines for people; serialises as JSON for scripts, with
/// every field always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// What is deployed.
    deployed: Known,
    /// Where its tree is.
    tree: String,
    /// What was compared.
    files: u64,
    bytes: u64,
    /// How many names are not as they should be, now.
    drifted: usize,
    /// The names that were not, from the root down.
    drifts: Vec<Drifted>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Drifted {
    path: String,
    deviations: Vec<Deviated>,
    /// `found`, `restored`, `removed` or `left`.
    outcome: &'static str,
    /// Why it was left.
    reason: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Deviated {
    /// `missing`, `extra`, `type`, `content`, `target`, `link`, `mode`, `owner`, `time` or
    /// `attribute`.
    kind: &'static str,
    expected: Option<String>,
    found: Option<String>,
}

impl Verified {
    /// Compares the deployed release's tree with its layers, which come from the source where the
    /// cache lacks them, and restores it where that is wanted. The agent waits meanwhile.
    ///
    /// # Errors
    /// [`AgentError::NothingDeployed`]; [`AgentError::Busy`]; [`AgentError::Unfinished`] for a
    /// repair in the middle of a deployment; [`AgentError::NoLayers`], and what befalls the source,
    /// the documents, the layers and the tree.
    pub async fn make<S: Source>(
        source: Option<&S>,
        verifying: &Verifying<'_>,
        stop: &Stop,
    ) -> Result<Self, AgentError> {
        let visit = Visit::enter(&verifying.host)?;
        if verifying.repair {
            visit.refuse_between()?;
        }
        let deployed = visit.deployed()?.clone();
        let tree = visit.directory.tree(&deployed.record.id);
        let options = UnpackOptions {
            stop: stop.flag(),
            ..options(&deployed, &tree)?
        };
        let cache = Cache::of(&visit.directory);
        let content = Content::recorded(&deployed.record);
        let (layers, described) = tokio::select! {
            described = content.describe(&cache, source, &options) => described?,
            () = stop.stopped() => return Err(AgentError::Interrupted),
        };
        let summary = described.summary();
        let work = Work {
            visit,
            layers,
            described,
            options,
            extra: verifying.extra,
            repair: verifying.repair,
        };
        let id = deployed.record.id.clone();
        let done = tokio::task::spawn_blocking(move || work.run(&id)).await;
        let drifts = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        Ok(Self {
            deployed: deployed.into(),
            tree: tree.display().to_string(),
            files: summary.files,
            bytes: summary.bytes,
            drifted: drifts.iter().filter(|drift| drift.still_drifts()).count(),
            drifts,
        })
    }

    /// Whether something is not as it should be.
    pub fn drifts(&self) -> bool {
        self.drifted > 0
    }
}

/// Returns how the tree was unpacked. An earlier version did not write it down: then what the
/// flags are unless given, to which whose the tree is tells who unpacked it.
fn options(deployed: &Remembered, tree: &Path) -> Result<UnpackOptions, AgentError> {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(tree).map_err(AgentError::io("read", tree))?;
    let usual = UnpackOptions {
        ownership: match owner.uid() {
            0 => Ownership::Archive,
            _ => Ownership::Process,
        },
        ..UnpackOptions::default()
    };
    let made = deployed.made.as_ref().map(|made| made.options());
    let mut options = made.unwrap_or(usual);
    // What was unpacked was within the limits of those flags.
    options.limits = Limits::none();
    Ok(options)
}

/// What blocks.
struct Work {
    visit: Visit,
    layers: Layers,
    described: Described,
    options: UnpackOptions,
    extra: Extra,
    repair: bool,
}

impl Work {
    fn run(mut self, id: &deploy_spec::Digest) -> Result<Vec<Drifted>, AgentError> {
        let failed = |source| AgentError::Compare {
            id: id.clone(),
            source,
        };
        let tree = self.visit.directory.tree(id);
        let stop = Arc::clone(&self.options.stop);
        if self.repair {
            // What a repair left that was killed behind its last file.
            self.visit.directory.remove_staging()?;
        }
        let mut drifts = self.described.compare(&tree, &stop).map_err(failed)?;
        if self.extra == Extra::Ignore {
            let extra = |drift: &Drift| matches!(drift.deviations[..], [Deviation::Extra(_)]);
            drifts.retain(|drift| !extra(drift));
        }
        if !self.repair || drifts.is_empty() {
            return Ok(drifts
                .iter()
                .map(|drift| Drifted::of(drift, None))
                .collect());
        }
        let staging = self.visit.directory.create_staging(id)?;
        let work = Repair {
            root: &tree,
            staging: &staging,
            options: &self.options,
            extras: match self.extra {
                Extra::Remove => Extras::Remove,
                Extra::Ignore | Extra::List => Extras::Leave,
            },
        };
        let repaired = repair(&mut self.layers, &self.described, &drifts, &work);
        self.visit.directory.remove_staging()?;
        let repaired = repaired.map_err(failed)?;
        let drifted = drifts.iter().zip(&repaired);
        Ok(drifted
            .map(|(drift, repaired)| Drifted::of(drift, Some(*repaired)))
            .collect())
    }
}

impl Drifted {
    fn of(drift: &Drift, repaired: Option<Repaired>) -> Self {
        let (outcome, reason) = match repaired {
            None => ("found", None),
            Some(Repaired::Restored) => ("restored", None),
            Some(Repaired::Removed) => ("removed", None),
            Some(Repaired::Left(reason)) => ("left", Some(reason)),
        };
        Self {
            path: Shown(&drift.path).to_string(),
            deviations: drift.deviations.iter().map(Deviated::of).collect(),
            outcome,
            reason,
        }
    }

    fn still_drifts(&self) -> bool {
        matches!(self.outcome, "found" | "left")
    }
}

impl Deviated {
    fn of(deviation: &Deviation) -> Self {
        let of = |kind, expected: Option<String>, found: Option<String>| Self {
            kind,
            expected,
            found,
        };
        let mode = |mode: &u32| Some(format!("{mode:04o}"));
        let owner = |(user, group): &(u32, u32)| Some(format!("{user}:{group}"));
        let path = |path: &Path| Some(Shown(path).to_string());
        match deviation {
            Deviation::Missing => of("missing", None, None),
            Deviation::Extra(found) => of("extra", None, Some((*found).to_owned())),
            Deviation::Type { expected, found } => {
                let [expected, found] = [expected, found].map(|what| Some((*what).to_owned()));
                of("type", expected, found)
            }
            Deviation::Content => of("content", None, None),
            Deviation::Target { expected, found } => of("target", path(expected), path(found)),
            Deviation::Link(file) => of("link", path(file), None),
            Deviation::Mode { expected, found } => of("mode", mode(expected), mode(found)),
            Deviation::Owner { expected, found } => of("owner", owner(expected), owner(found)),
            Deviation::Time => of("time", None, None),
            Deviation::Attribute(name) => of("attribute", Some(name.clone()), None),
            _ => of("other", None, None),
        }
    }
}

impl fmt::Display for Deviated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            expected,
            found,
        } = self;
        match (expected.as_deref(), found.as_deref()) {
            (Some(expected), Some(found)) => {
                write!(formatter, "{kind} {found} instead of {expected}")
            }
            (Some(name), None) if *kind == "link" => {
                write!(formatter, "no hard link of {name} any more")
            }
            (Some(name), None) => write!(formatter, "{kind} {name}"),
            (None, Some(found)) => write!(formatter, "{kind} {found}"),
            (None, None) => formatter.write_str(kind),
        }
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, .. } = self;
        writeln!(formatter, "deployed: {}", self.deployed)?;
        writeln!(
            formatter,
            "compared: {files} files, {bytes} bytes in {}",
            self.tree
        )?;
        for drift in &self.drifts {
            let deviations: Vec<_> = drift.deviations.iter().map(ToString::to_string).collect();
            write!(formatter, "{}: {}", drift.path, deviations.join(", "))?;
            match (drift.outcome, drift.reason) {
                ("found", _) => writeln!(formatter)?,
                (outcome, None) => writeln!(formatter, ": {outcome}")?,
                (_, Some(reason)) => writeln!(formatter, ": left as it is: {reason}")?,
            }
        }
        match (self.drifts.len(), self.drifted) {
            (0, _) => writeln!(formatter, "nothing drifted"),
            (all, 0) => writeln!(formatter, "drifted: {all}, all of them mended"),
            (all, left) if left < all => writeln!(formatter, "drifted: {all}, {left} still do"),
            (all, _) => writeln!(formatter, "drifted: {all}"),
        }
    }
}
