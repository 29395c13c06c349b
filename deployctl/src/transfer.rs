//! Content from one place to another, with as few bytes moved as possible. For the verbs that
//! compose, and for importers and bundles.

use deploy_spec::Digest;

use crate::client::{ClientError, Content, Progress, Repository, Uploaded};

/// Makes sure that repository `to` has a blob of repository `from`: mounted where both are in
/// one registry that mounts, otherwise copied through. Idempotent.
///
/// # Errors
/// [`ClientError`]; [`ClientError::NotFound`] where `from` does not have it either.
pub async fn blob(
    digest: &Digest,
    size: u64,
    from: &Repository,
    to: &Repository,
    progress: &Progress,
) -> Result<Uploaded, ClientError> {
    // A blob that is there already is mounted as well, without a question before.
    if from.shares_registry_with(to) && to.mount(digest, Some(from.name())).await? {
        progress.report(size);
        return Ok(Uploaded::Mounted);
    }
    let content = Content::Blob {
        repository: from.clone(),
        size,
    };
    to.upload(digest, &content, progress).await
}
