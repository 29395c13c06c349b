//! Keeping other writers of an upload out, whatever process they are in. Made by `uploads` from
//! a session, raised by `ingest` before it writes to what the session names.
//!
//! A fence is raised by a conditional write of the session's record. Whoever comes later raises
//! theirs over it; then the former one's next conditional write fails, and with it the request.
//! So of all writers one at most gets what it wrote acknowledged, and only who holds the fence
//! publishes or removes data that the session names.

use std::time::Duration;

use object_store::{PutPayload, path::Path};
use tokio::time::Instant;

use super::{
    error::StoreError,
    objects::{Objects, Version},
};

/// For so long, who raised a fence may rely on it without a look.
const RELIED_ON: Duration = Duration::from_secs(30);

/// The right to write to the data of an upload.
pub(crate) struct Fence {
    objects: Objects,
    key: Path,
    /// The session's record, made out to us.
    record: PutPayload,
    version: Version,
    raised: Option<Instant>,
}

impl Fence {
    /// Returns a fence that is not raised yet, over a session in this state.
    pub(crate) fn new(objects: Objects, key: Path, record: PutPayload, version: Version) -> Self {
        Self {
            objects,
            key,
            record,
            version,
            raised: None,
        }
    }

    /// Raises the fence, once.
    ///
    /// # Errors
    /// [`StoreError::UploadBusy`] where another writer was faster.
    pub(crate) async fn raise(&mut self) -> Result<(), StoreError> {
        if self.raised.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        let version = self.version.clone();
        let advanced = self
            .objects
            .advance(&self.key, self.record.clone(), version);
        self.version = advanced.await?.ok_or(StoreError::UploadBusy)?;
        self.raised = Some(now);
        Ok(())
    }

    /// Looks whether the fence still stands, where that was long ago.
    ///
    /// # Errors
    /// [`StoreError::UploadBusy`] where another writer took over, or ended the upload.
    pub(crate) async fn check(&mut self) -> Result<(), StoreError> {
        if self.raised.is_some_and(|since| since.elapsed() > RELIED_ON) {
            self.raised = None;
            self.raise().await?;
        }
        Ok(())
    }

    /// Returns the state of the session, where we changed it.
    pub(crate) fn raised(&self) -> Option<&Version> {
        self.raised.as_ref().map(|_| &self.version)
    }
}
