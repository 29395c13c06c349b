//! Who writes to what right now, within this process: two requests must not write the data of
//! one upload at the same time. Across processes the session's record decides, by conditional
//! writes. Used by `uploads`.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::uploads::UploadId;

/// The uploads that some request writes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<HashSet<UploadId>>>);

/// The right to write to an upload, until dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    id: UploadId,
}

impl Claims {
    /// Returns the claim, or nothing where another request holds it.
    pub(crate) fn take(&self, id: &UploadId) -> Option<Claim> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(id.clone()).then(|| Claim {
            claims: self.clone(),
            id: id.clone(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.id);
    }
}
