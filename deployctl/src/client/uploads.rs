//! Blobs into a registry: looked for, mounted, or sent.

use deploy_spec::{Digest, RepositoryName};

use super::{ClientError, Content, Progress, Repository, sending::Sending, sessions::Mount};

/// What an upload had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// Nothing: the repository had the blob.
    Existed,
    /// It was mounted from another repository of the registry, and no byte moved.
    Mounted,
    /// The bytes were sent.
    Sent {
        /// So many of them had arrived before: in an upload that broke off when the program that
        /// sent them was ended.
        before: u64,
    },
}

impl Repository {
    /// Makes sure that the repository has a blob: looks for it, then sends it.
    ///
    /// Idempotent. Blobs above 16 MiB go in chunks; after a break the registry is asked how far
    /// it is, and the rest follows. Where [`Options::unfinished`](super::Options::unfinished) is
    /// given, that holds too where the program was ended meanwhile, for the next one.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] with code `DIGEST_INVALID` where the content
    /// is not what its digest says.
    pub async fn upload(
        &self,
        digest: &Digest,
        content: &Content,
        progress: &Progress,
    ) -> Result<Uploaded, ClientError> {
        if self.blob_size(digest).await?.is_some() {
            progress.report(content.size());
            return Ok(Uploaded::Existed);
        }
        let sending = Sending {
            repository: self,
            digest,
            content,
            progress,
        };
        let before = sending.send().await?;
        Ok(Uploaded::Sent { before })
    }

    /// Mounts a blob from another repository of the registry, or from wherever the registry has
    /// it where `from` is not given. Returns whether it did.
    ///
    /// # Errors
    /// [`ClientError`]; that the registry cannot or will not mount is none.
    pub async fn mount(
        &self,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool, ClientError> {
        match self.try_mount(digest, from).await? {
            Mount::Mounted => Ok(true),
            Mount::Declined => Ok(false),
            Mount::Session(session) => {
                self.cancel(digest, session).await;
                Ok(false)
            }
        }
    }
}
