//! Markers: objects whose being there says it all. A blob is a member of a repository, a
//! manifest refers to a subject, the catalog names a repository. Used by `blobs`, `manifests`,
//! `catalog` and `collect`.
//!
//! A live marker is empty, so that looking at it needs its size alone. One that is not tells
//! its state.

use bytes::Bytes;
use jiff::Timestamp;
use object_store::{PutPayload, path::Path};
use serde::{Deserialize, Serialize};

use super::{
    Store,
    error::StoreError,
    record,
    state::{Collectable, Established, Standing, State},
};

/// What a marker says besides being there.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Marker {
    #[serde(default)]
    state: State,
    #[serde(default)]
    since: Option<Timestamp>,
}

impl Collectable for Marker {
    fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            since: self.since,
        }
    }

    fn set_standing(&mut self, standing: Standing) {
        (self.state, self.since) = (standing.state, standing.since);
    }

    fn encode(&self, _body: Bytes) -> PutPayload {
        match self.state {
            State::Live => PutPayload::new(),
            State::Condemned | State::Doomed => record::encode(self, []),
        }
    }

    fn decode(key: &Path, object: &Bytes) -> Result<(Self, Bytes), StoreError> {
        match object.is_empty() {
            true => Ok((Self::default(), Bytes::new())),
            false => record::decode(key, object),
        }
    }
}

impl Store {
    /// Returns whether the marker is there, for somebody who will rely on it.
    pub(super) async fn rely_on_marker(&self, key: &Path) -> Result<bool, StoreError> {
        match self.objects().size(key).await? {
            None => Ok(false),
            Some(0) => Ok(true),
            Some(_) => Ok(self.rely::<Marker>(key).await?.is_some()),
        }
    }

    /// Returns whether readers see the marker.
    pub(super) async fn has_marker(&self, key: &Path) -> Result<bool, StoreError> {
        match self.objects().size(key).await? {
            None => Ok(false),
            Some(0) => Ok(true),
            Some(_) => Ok(self.look::<Marker>(key).await?.is_some()),
        }
    }

    /// Lets the marker be there, alive and durable. Idempotent.
    pub(super) async fn set_marker(&self, key: &Path) -> Result<(), StoreError> {
        match self.establish::<Marker>(key, PutPayload::new()).await? {
            Established::Written | Established::There(_) => Ok(()),
            // What it says about its state is lost; that it is there is not.
            Established::Damaged { version } => {
                self.objects()
                    .update(key, PutPayload::new(), version)
                    .await?;
                Ok(())
            }
        }
    }
}
