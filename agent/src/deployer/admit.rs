//! Where signatures are asked for: whether a release may be taken on at all. Only `deployer` calls
//! it, before anything of the release is fetched.

use deploy_spec::{Outline, ReleaseNumber, annotation};

use super::{Deployer, Memory, one_line};
use crate::{
    admission::{Accepted, Candidate, Lack, Vouched},
    error::AgentError,
    journal::{Entry, Refused},
    machine::Id,
    source::Source,
};

/// What is written down with the release that is taken on.
pub(super) struct Admitted {
    pub(super) vouched: Vouched,
    pub(super) accepted: Accepted,
}

impl<S: Source> Deployer<S> {
    /// Returns who vouches for the release whose manifest was seen last; nothing where that is not
    /// asked for. It counts once it is written down together with what is done then: were it
    /// forgotten in a crash, something older could come in its place.
    pub(super) async fn admit(
        &self,
        memory: &Memory,
        id: &Id,
    ) -> Result<Option<Admitted>, AgentError> {
        let Some(gate) = &self.settings.gate else {
            return Ok(None);
        };
        let Some((_, manifest)) = memory.manifest.as_ref().filter(|(seen, _)| seen == id) else {
            return Err(AgentError::NoWayBack { id: id.clone() });
        };
        let signatures = self.source.signatures(id).await?;
        let candidate = Candidate {
            id,
            number: number(manifest),
            signatures: &signatures,
        };
        let before = before(self.journal().entry(), gate);
        match gate.judge(&candidate, before.as_ref(), (self.settings.clock)()) {
            Ok((vouched, accepted)) => {
                tracing::info!(release.id = %id, "signed {vouched}");
                Ok(Some(Admitted { vouched, accepted }))
            }
            Err(lack) => Err(self.refuse(id, candidate.number, &lack)?),
        }
    }

    /// Writes down why a release is not deployed, for whoever asks.
    fn refuse(
        &self,
        id: &Id,
        number: Option<ReleaseNumber>,
        lack: &Lack,
    ) -> Result<AgentError, AgentError> {
        let text = lack.to_string();
        let why = one_line(&text);
        let refused = Refused {
            id: id.clone(),
            release: number.map(|number| number.to_string()),
            since: (self.settings.clock)(),
            why,
        };
        let error = AgentError::NotAdmitted {
            release: refused.name(),
            why: text,
        };
        self.note(|entry| {
            let known = entry.refused.as_ref();
            if !known.is_some_and(|known| known.id == refused.id && known.why == refused.why) {
                entry.refused = Some(refused);
            }
        })?;
        Ok(error)
    }

    /// Forgets why a release was not deployed that the channel has no more.
    pub(super) fn seen_instead(&self, id: &Id) {
        let stale = |entry: &Entry| entry.refused.as_ref().is_some_and(|known| known.id != *id);
        let is_stale = stale(self.journal().entry());
        if is_stale && let Err(error) = self.note(|entry| entry.refused = None) {
            tracing::debug!("cannot forget what was refused: {error}");
        }
    }
}

/// Returns what a release has to be newer than. What was deployed while signatures were not asked
/// for counts by its number.
pub(crate) fn before(entry: &Entry, gate: &crate::Gate) -> Option<Accepted> {
    let accepted = entry.accepted.clone();
    let accepted = accepted.filter(|accepted| accepted.repository == gate.repository);
    let deployed = entry.deployed.as_ref();
    let deployed = deployed.map(|known| Accepted::deployed(&gate.repository, &known.record));
    match (accepted, deployed) {
        (Some(accepted), Some(deployed)) if deployed.number > accepted.number => Some(Accepted {
            time: accepted.time.max(deployed.time),
            ..deployed
        }),
        (accepted, deployed) => accepted.or(deployed),
    }
}

/// Returns the number that a manifest has.
pub(crate) fn number(manifest: &[u8]) -> Option<ReleaseNumber> {
    let outline = Outline::parse(None, manifest).ok()?;
    outline.annotations.get(annotation::VERSION)?.parse().ok()
}
