//! The states of what upkeep may remove: records of blobs, manifests, tags, and the markers of
//! `markers`. Used by those who read and write them, and by `collect`, `retention`, `scrub`.
//!
//! ```text
//! live ──► condemned ──► doomed ──► gone
//!   ▲          │            ┊
//!   └──────────┘            └┄┄► live again, where whoever doomed it is known to be dead
//! ```
//!
//! Object stores write conditionally, but delete unconditionally: a delete on its way must not
//! meet what somebody was promised meanwhile. So each arrow but the last is a conditional write.
//! *Condemned* is there for every reader, but whoever relies on it brings it back to life before
//! answering. *Doomed* is gone for every reader; nobody brings it back, the delete may be on its
//! way. Who wants to write there waits until it is gone, and so it is asked for once: a second
//! request, sent because the first one's answer was lost, would meet what was written since.
//!
//! On a store whose every change passes through this process (a local directory), a condemned
//! object is removed by one conditional step, and nothing is ever doomed.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use object_store::{PutPayload, path::Path};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Store,
    error::StoreError,
    objects::{Created, Version},
    record,
};

/// Who took longer than this between looking at something and promising it looks again. A grace
/// must be many times as long.
pub(super) const RELY: SignedDuration = SignedDuration::from_secs(60);
/// No delete begins or goes on later than this after its object was doomed.
const DELETE_WITHIN: Duration = Duration::from_secs(60);
/// Whoever doomed it so long ago deletes it no more: the delete had to be under way within
/// [`DELETE_WITHIN`], a store refuses a request that was signed over 15 minutes ago, and clocks
/// differ a little.
pub(super) const ABANDONED: SignedDuration = SignedDuration::from_mins(20);
/// How long a writer waits for a doomed object to go.
const WAIT: Duration = Duration::from_secs(5);
const WAIT_STEP: Duration = Duration::from_millis(100);
/// Somebody else was faster this often in a row: that is no coincidence any more.
const ATTEMPTS: usize = 64;

/// What may become of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It stays.
    #[default]
    Live,
    /// It will go unless somebody relies on it before its grace is over.
    Condemned,
    /// It is about to go; for readers it is not there.
    Doomed,
}

impl State {
    /// Returns whether it need not be written down.
    pub(super) fn is_live(&self) -> bool {
        *self == Self::Live
    }
}

/// The state of an object, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    /// Since when it is in this state; of one that was always live, nothing.
    pub(crate) since: Option<Timestamp>,
}

impl Standing {
    fn new(state: State, now: Timestamp) -> Self {
        Self {
            state,
            since: Some(now),
        }
    }
}

/// What has states: the header of an object, and how it is written.
pub(super) trait Collectable: Serialize + DeserializeOwned + Send + Sync {
    /// Returns its state.
    fn standing(&self) -> Standing;

    /// Puts it into another state.
    fn set_standing(&mut self, standing: Standing);

    /// Returns the object with this body.
    fn encode(&self, body: Bytes) -> PutPayload {
        record::encode(self, [body])
    }

    /// Returns header and body of an object.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    fn decode(key: &Path, object: &Bytes) -> Result<(Self, Bytes), StoreError> {
        record::decode(key, object)
    }
}

/// An object as it was read.
#[derive(Debug)]
pub(super) struct Seen<H> {
    pub(super) header: H,
    pub(super) body: Bytes,
    pub(super) version: Version,
}

/// What was found where one looked.
#[derive(Debug)]
pub(super) enum Found<H> {
    /// Nothing.
    Nothing,
    /// An object, in whatever state.
    Object(Seen<H>),
    /// An object that nobody can read.
    Damaged { error: StoreError, version: Version },
}

/// What became of an object that should be there.
#[derive(Debug)]
pub(super) enum Established<H> {
    /// It is ours.
    Written,
    /// Another one was there, and stays, alive.
    There(Seen<H>),
    /// Another one is there, and nobody can read it.
    Damaged { version: Version },
}

impl Store {
    /// Returns what is at the key, in whatever state.
    pub(super) async fn find<H: Collectable>(&self, key: &Path) -> Result<Found<H>, StoreError> {
        let Some(object) = self.objects().read(key).await? else {
            return Ok(Found::Nothing);
        };
        let version = object.version;
        Ok(match H::decode(key, &object.bytes) {
            Ok((header, body)) => Found::Object(Seen {
                header,
                body,
                version,
            }),
            Err(error) => Found::Damaged { error, version },
        })
    }

    /// Returns what readers see at the key: nothing of what is doomed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where it cannot be read.
    pub(super) async fn look<H: Collectable>(
        &self,
        key: &Path,
    ) -> Result<Option<Seen<H>>, StoreError> {
        match self.find::<H>(key).await? {
            Found::Object(seen) if seen.header.standing().state != State::Doomed => Ok(Some(seen)),
            Found::Object(_) | Found::Nothing => Ok(None),
            Found::Damaged { error, .. } => Err(error),
        }
    }

    /// Returns what readers see at the key, as [`Store::look`] does, for somebody who will rely
    /// on it: on return it is live, and stays for the time of a grace at least.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where it cannot be read.
    pub(super) async fn rely<H: Collectable>(
        &self,
        key: &Path,
    ) -> Result<Option<Seen<H>>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(seen) = self.look::<H>(key).await? else {
                return Ok(None);
            };
            match seen.header.standing().state {
                State::Live => return Ok(Some(seen)),
                State::Condemned | State::Doomed => self.revive(key, seen).await?,
            };
        }
        Err(StoreError::Contended(key.to_string()))
    }

    /// Brings an object back to life where it still is as it was seen; false where it is not.
    pub(super) async fn revive<H: Collectable>(
        &self,
        key: &Path,
        seen: Seen<H>,
    ) -> Result<bool, StoreError> {
        let standing = Standing::new(State::Live, self.now());
        self.put_standing(key, seen, standing).await
    }

    /// Condemns an object where it still is as it was seen; false where it is not.
    pub(super) async fn condemn<H: Collectable>(
        &self,
        key: &Path,
        seen: Seen<H>,
    ) -> Result<bool, StoreError> {
        let standing = Standing::new(State::Condemned, self.now());
        self.put_standing(key, seen, standing).await
    }

    async fn put_standing<H: Collectable>(
        &self,
        key: &Path,
        mut seen: Seen<H>,
        standing: Standing,
    ) -> Result<bool, StoreError> {
        seen.header.set_standing(standing);
        let payload = seen.header.encode(seen.body);
        self.objects().update(key, payload, seen.version).await
    }

    /// Writes the object where nothing is, and otherwise lets what is there live. Waits for a
    /// doomed one to go.
    ///
    /// # Errors
    /// [`StoreError::Removing`] where it does not go.
    pub(super) async fn establish<H: Collectable>(
        &self,
        key: &Path,
        payload: PutPayload,
    ) -> Result<Established<H>, StoreError> {
        for _ in 0..ATTEMPTS {
            if self.objects().create(key, payload.clone()).await? == Created::New {
                return Ok(Established::Written);
            }
            match self.find::<H>(key).await? {
                Found::Nothing => {}
                Found::Damaged { version, .. } => return Ok(Established::Damaged { version }),
                Found::Object(seen) => match seen.header.standing().state {
                    State::Live => return Ok(Established::There(seen)),
                    State::Condemned => {
                        if let Some(seen) = self.rely::<H>(key).await? {
                            return Ok(Established::There(seen));
                        }
                    }
                    State::Doomed => {
                        if self.replace_doomed(key, seen, &payload).await? {
                            return Ok(Established::Written);
                        }
                    }
                },
            }
        }
        Err(StoreError::Contended(key.to_string()))
    }

    /// Waits for a doomed object to go; false once it has. Where it was abandoned, writes in
    /// its place, and returns true.
    ///
    /// # Errors
    /// [`StoreError::Removing`] where it stays, and may still be deleted at any time.
    pub(super) async fn replace_doomed<H: Collectable>(
        &self,
        key: &Path,
        mut seen: Seen<H>,
        payload: &PutPayload,
    ) -> Result<bool, StoreError> {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            if self.is_abandoned(seen.header.standing()) {
                let written = self
                    .objects()
                    .update(key, payload.clone(), seen.version)
                    .await?;
                return Ok(written);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(StoreError::Removing(key.to_string()));
            }
            tokio::time::sleep(WAIT_STEP).await;
            match self.find::<H>(key).await? {
                Found::Object(still) if still.header.standing().state == State::Doomed => {
                    seen = still;
                }
                _ => return Ok(false),
            }
        }
    }

    /// Returns whether nobody will delete the doomed object any more.
    pub(super) fn is_abandoned(&self, standing: Standing) -> bool {
        // On a directory, whoever doomed it did so elsewhere: it was copied here.
        self.objects().is_exclusive()
            || standing
                .since
                .is_none_or(|since| self.now().duration_since(since) > ABANDONED)
    }

    /// Removes an object where it still is as it was seen, and what `data` names with it; false
    /// where it is not. Durable. Not to be dropped half way: what is doomed keeps writers
    /// waiting.
    ///
    /// # Errors
    /// Where it is unknown whether it is gone, it stays doomed; a later round takes it up.
    pub(super) async fn retire<H: Collectable>(
        &self,
        key: &Path,
        mut seen: Seen<H>,
        data: Option<&Path>,
    ) -> Result<bool, StoreError> {
        if self.objects().is_exclusive() {
            // The other way round, a loss of power could bring it back without its bytes.
            let removed = self.objects().remove_if(key, &seen.version).await?;
            if let (true, Some(data)) = (removed, data) {
                self.data().forget(data).await?;
            }
            return Ok(removed);
        }
        let (doomed, began) = (self.now(), tokio::time::Instant::now());
        seen.header
            .set_standing(Standing::new(State::Doomed, doomed));
        let payload = seen.header.encode(Bytes::new());
        if !self.objects().update(key, payload, seen.version).await? {
            return Ok(false);
        }
        // By both clocks: one stands still while a machine sleeps, the other may be set.
        let in_time = || match self.now().duration_since(doomed).unsigned_abs() < DELETE_WITHIN {
            true => Ok(()),
            false => Err(StoreError::Removing(key.to_string())),
        };
        let delete = async {
            if let Some(data) = data {
                in_time()?;
                self.data().forget(data).await?;
            }
            in_time()?;
            self.objects().remove_once(key).await
        };
        match tokio::time::timeout_at(began + DELETE_WITHIN, delete).await {
            Ok(done) => done.map(|()| true),
            Err(_) => Err(StoreError::Removing(key.to_string())),
        }
    }
}
