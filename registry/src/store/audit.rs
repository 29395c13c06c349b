//! Where the lines of the audit log are kept: beside everything else, under keys that sort by
//! time. Knows nothing of what lines say. Called by [`crate::audit`].
//!
//! An object is written once and never changed; any number of processes write their own. The
//! rest of the store never looks at them.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;

use super::{Store, error::StoreError, keys, objects::Created};

/// The lines of an object are no further apart, unless the backend took none for as long: so far
/// before a time one has to look for lines of that time.
const SPAN_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Some lines of the log, as a listing shows them.
#[derive(Clone, Debug)]
pub(crate) struct AuditObject {
    key: Path,
    /// In bytes.
    pub(crate) size: u64,
    /// When the first line was written.
    pub(crate) first: Timestamp,
    /// When the last line was.
    pub(crate) last: Timestamp,
}

impl AuditObject {
    /// Returns what it is called, for the log of the process.
    pub(crate) fn name(&self) -> &str {
        self.key.as_ref()
    }
}

impl Store {
    /// Writes lines down, the first and the last of which are of these times. On return they are
    /// durable.
    pub(crate) async fn put_audit(
        &self,
        first: Timestamp,
        last: Timestamp,
        lines: Bytes,
    ) -> Result<(), StoreError> {
        loop {
            let key = keys::audit(first, last);
            let created = self.objects().create_own(&key, lines.clone().into());
            if created.await? == Created::New {
                return Ok(());
            }
        }
    }

    /// Returns what holds lines of this time or later, and perhaps some of the day before; all
    /// there is, without a time. In the order of their first lines.
    pub(crate) fn audit_objects(
        &self,
        since: Option<Timestamp>,
    ) -> BoxStream<'static, Result<AuditObject, StoreError>> {
        let from = since.map(|since| {
            let before = since.checked_sub(SPAN_MAX).unwrap_or(Timestamp::MIN);
            keys::audit_from(before)
        });
        self.objects()
            .entries_from(&keys::audits(), from.as_ref())
            .try_filter_map(|entry| async move {
                let Some((first, last)) = keys::audit_of(&entry.key) else {
                    tracing::debug!(key = %entry.key, "no part of the audit log");
                    return Ok(None);
                };
                Ok(Some(AuditObject {
                    key: entry.key,
                    size: entry.size,
                    first,
                    last,
                }))
            })
            .boxed()
    }

    /// Returns the lines; nothing where they are gone by now.
    pub(crate) async fn read_audit(
        &self,
        object: &AuditObject,
    ) -> Result<Option<Bytes>, StoreError> {
        // Not as a small object: nobody needs it in memory again.
        let content = self.objects().content(&object.key, 0..object.size).await?;
        let Some(content) = content else {
            return Ok(None);
        };
        let pieces = content.into_stream();
        let bytes = pieces.try_fold(BytesMut::new(), |mut bytes, piece| async move {
            bytes.extend_from_slice(&piece);
            Ok(bytes)
        });
        Ok(Some(bytes.await?.freeze()))
    }

    /// Removes the lines, durably; that they are gone already is no error.
    pub(crate) async fn remove_audit(&self, object: &AuditObject) -> Result<(), StoreError> {
        self.objects().remove(&object.key).await
    }

    /// Removes the directories of days that nothing is left of.
    pub(crate) async fn tidy_audit(&self) -> Result<(), StoreError> {
        self.objects()
            .remove_empty_directories(&keys::audits())
            .await?;
        Ok(())
    }
}
