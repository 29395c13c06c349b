//! Who is let in and who is not: logins at the token endpoint, and requests that are refused. Counted
//! by `http`, without a lock and without a look-up.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::collect::Family;
use crate::measure::Count;

/// What somebody wants to be let in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginKind {
    Anonymous,
    Key,
    Password,
    Refresh,
}

impl LoginKind {
    const ALL: [Self; 4] = [Self::Anonymous, Self::Key, Self::Password, Self::Refresh];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Key => "key",
            Self::Password => "password",
            Self::Refresh => "refresh",
        }
    }
}

/// How that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginOutcome {
    /// He got his token.
    Done,
    /// He proved nothing.
    Failed,
    /// His client failed too often before.
    HeldOff,
    /// Too many passwords were checked.
    Busy,
    /// The storage did not take that his nonce is used.
    Unnoted,
}

impl LoginOutcome {
    const ALL: [Self; 5] = [
        Self::Done,
        Self::Failed,
        Self::HeldOff,
        Self::Busy,
        Self::Unnoted,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::HeldOff => "held_off",
            Self::Busy => "busy",
            Self::Unnoted => "unnoted",
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing is changed, whoever asks.
    ReadOnly,
    /// It came without a token, and not everybody may.
    NoToken,
    /// Its token is none, or none any more.
    InvalidToken,
    /// Its token is for something else, or for less.
    InsufficientScope,
}

impl Reason {
    const ALL: [Self; 4] = [
        Self::ReadOnly,
        Self::NoToken,
        Self::InvalidToken,
        Self::InsufficientScope,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::NoToken => "no_token",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

/// Counts logins and refusals.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    logins: [[Count; LoginOutcome::ALL.len()]; LoginKind::ALL.len()],
    refused: [Count; Reason::ALL.len()],
}

impl Logins {
    /// Counts somebody who wanted to be let in.
    pub(crate) fn concluded(&self, kind: LoginKind, outcome: LoginOutcome) {
        self.logins[kind as usize][outcome as usize].add(1);
    }

    /// Counts a request that was refused.
    pub(crate) fn refused(&self, reason: Reason) {
        self.refused[reason as usize].add(1);
    }
}

impl Collector for Logins {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let encoder = &mut encoder;
        let logins = LoginKind::ALL.iter().zip(&self.logins);
        let logins = logins.flat_map(|(kind, outcomes)| {
            let outcomes = LoginOutcome::ALL.iter().zip(outcomes);
            outcomes.map(move |(outcome, count)| {
                let labels = [("kind", kind.name()), ("outcome", outcome.name())];
                (labels, count.get())
            })
        });
        Family::new("logins", "Who wanted a token, and how that ended")
            .counters(encoder, logins)?;
        let refused = Reason::ALL.iter().zip(&self.refused);
        let refused = refused.map(|(reason, count)| ([("reason", reason.name())], count.get()));
        Family::new("requests_refused", "Requests that were not admitted")
            .counters(encoder, refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_place_for_everything() {
        for (place, kind) in LoginKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, place);
        }
        for (place, outcome) in LoginOutcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, place);
        }
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
