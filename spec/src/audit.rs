//! The lines of a registry's audit log, and the pages in which it shows them. Written by the
//! registry, read by clients.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, time::whole_microseconds};

/// Where the log is read.
pub const PATH: &str = "/v2/_deploytools/audit";

/// What was done, as [`Entry::action`] has it. A registry may have more words than these.
pub mod action {
    /// A manifest came into a repository.
    pub const MANIFEST_PUT: &str = "manifest.put";
    /// A manifest was removed.
    pub const MANIFEST_DELETE: &str = "manifest.delete";
    /// A tag was made, or means another manifest.
    pub const TAG_MOVE: &str = "tag.move";
    /// A tag was removed.
    pub const TAG_DELETE: &str = "tag.delete";
    /// A blob was pushed to a repository, or mounted from another one.
    pub const BLOB_PUT: &str = "blob.put";
    /// A blob was taken out of a repository.
    pub const BLOB_DELETE: &str = "blob.delete";
    /// Somebody proved who he is.
    pub const LOGIN: &str = "login";
    /// Somebody was refused what he asked for.
    pub const REFUSED: &str = "refused";
    /// Lines were lost: more came than could be written.
    pub const LOST: &str = "lost";
}

/// Kinds of actors, as [`Actor::kind`] has them.
pub mod kind {
    /// Nobody in particular.
    pub const ANONYMOUS: &str = "anonymous";
    /// Whoever has an SSH key; the name is its fingerprint.
    pub const KEY: &str = "key";
    /// Whoever knows a password; the name is the user's.
    pub const USER: &str = "user";
    /// The registry itself: its upkeep.
    pub const REGISTRY: &str = "registry";
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// One of [`kind`].
    pub kind: Cow<'static, str>,
    /// A key's fingerprint, a user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What stands behind the key in the file of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Actor {
    /// Returns an actor of this kind without a name.
    pub fn unnamed(kind: &'static str) -> Self {
        Self {
            kind: Cow::Borrowed(kind),
            name: None,
            comment: None,
        }
    }
}

/// One line: one change, or one refusal. Lines sort by time, and those of one time by `id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, to the microsecond, by the clock of the registry's machine.
    pub time: Timestamp,
    /// Tells lines of one time apart; no two lines have the same.
    pub id: String,
    /// What was done: one of [`action`].
    pub action: Cow<'static, str>,
    /// By whom.
    pub actor: Actor,
    /// In which repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The tag or digest that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What the reference meant before; nothing where it did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// What it means since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Digest>,
    /// From where: address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The request's id, as the access log has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What the client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What was asked for, of a refusal: a method and a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// With which HTTP status it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it was refused, or done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many more of the kind there were that have no line of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
}

impl Entry {
    /// Returns a line that says who did what, and nothing else yet. Its time is cut to
    /// microseconds.
    pub fn new(time: Timestamp, id: String, action: &'static str, actor: Actor) -> Self {
        Self {
            time: whole_microseconds(time),
            id,
            action: Cow::Borrowed(action),
            actor,
            repository: None,
            reference: None,
            before: None,
            after: None,
            peer: None,
            request: None,
            agent: None,
            asked: None,
            status: None,
            reason: None,
            more: None,
        }
    }

    /// Returns where the line stands among others.
    pub fn position(&self) -> Position {
        Position {
            time: self.time,
            id: self.id.clone(),
        }
    }
}

/// Where a line stands among others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Its time.
    pub time: Timestamp,
    /// Its id.
    pub id: String,
}

impl std::fmt::Display for Position {
    /// `TIME/ID`
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.time, self.id)
    }
}

/// A text that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no position in the audit log", .0.escape_debug())]
pub struct PositionError(String);

impl std::str::FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let error = || PositionError(text.to_owned());
        let (time, id) = text.split_once('/').ok_or_else(error)?;
        let time: Timestamp = time.parse().map_err(|_| error())?;
        Ok(Self {
            time,
            id: id.to_owned(),
        })
    }
}

/// The body of `GET` on [`PATH`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Lines, oldest first.
    pub entries: Vec<Entry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_and_survive_a_round_trip() {
        let time: Timestamp = "2026-01-02T03:04:05.678901234Z".parse().unwrap();
        let mut entry = Entry::new(
            time,
            "1".to_owned(),
            action::TAG_MOVE,
            Actor::unnamed(kind::ANONYMOUS),
        );
        entry.repository = Some("configs/a".to_owned());
        entry.after = Some(Digest::sha256(b""));
        let line = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            line,
            "{\"time\":\"2026-01-02T03:04:05.678901Z\",\"id\":\"1\",\"action\":\"tag.move\",\
             \"actor\":{\"kind\":\"anonymous\"},\"repository\":\"configs/a\",\
             \"after\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}"
        );
        assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
        // What a later registry says.
        let later = line
            .replace("tag.move", "tag.sign")
            .replace("}", ",\"new\":1}");
        assert_eq!(
            serde_json::from_str::<Entry>(&later).unwrap().action,
            "tag.sign"
        );
    }

    #[test]
    fn positions_sort_and_survive_a_round_trip() {
        let position = |text: &str| text.parse::<Position>().unwrap();
        let [one, two, three] = [
            "2026-01-02T03:04:05Z/b",
            "2026-01-02T03:04:05.000001Z/",
            "2026-01-02T03:04:05.000001Z/a/c",
        ];
        assert!(position(one) < position(two) && position(two) < position(three));
        for text in [one, two, three] {
            assert_eq!(position(text).to_string(), text);
        }
        for text in ["", "x", "2026-01-02T03:04:05Z", "yesterday/1"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
