//! A layout on a disk as a source: a directory or an archive, brought by whatever means, with
//! the network cut. Made by `main`.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use deploy_spec::{
    Channel, ConfigurationName, Descriptor, Digest, Hasher, Prefix, media_type,
    signature::Signature,
};
use deployctl::{
    client::forget_download,
    layout::{Content, LayoutError, named},
    signing,
};

use crate::source::{Download, Look, Source, SourceError};

/// Manifests are at most so large, as registries have it.
const MANIFEST_MAX: u64 = 4 << 20;
const COPY_BUFFER: usize = 1 << 20;

/// Follows one channel of one configuration.
#[derive(Clone)]
pub struct LayoutSource {
    content: Arc<dyn Content>,
    /// How people know it.
    name: String,
    /// What the channel may be called in there.
    channel: [String; 2],
}

impl LayoutSource {
    /// Returns the source of what `content` has under `<prefix>configs/<configuration>:<channel>`
    /// or under `<channel>`; of its only manifest, if that has no name. `name` is what logs call
    /// it. Reads nothing yet.
    pub fn new(
        content: impl Content + 'static,
        name: String,
        prefix: &Prefix,
        configuration: &ConfigurationName,
        channel: &Channel,
    ) -> Self {
        let repository = prefix.configuration(configuration);
        Self {
            content: Arc::new(content),
            name,
            channel: [format!("{repository}:{channel}"), channel.to_string()],
        }
    }

    /// Does something that blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Content) -> Result<T, LayoutSourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let content = Arc::clone(&self.content);
        tokio::task::spawn_blocking(move || work(&*content))
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
            .map_err(SourceError::new)
    }
}

/// Why a layout did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
enum LayoutSourceError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the layout does not have the blob `{0}`")]
    Missing(Digest),
    #[error("the blob has the digest `{found}`, not `{expected}`: the layout is damaged")]
    Digest { expected: Digest, found: Digest },
    #[error("the blob `{digest}` has more than {limit} bytes")]
    TooLarge { digest: Digest, limit: u64 },
    #[error("cannot copy the blob to `{}`", path.display())]
    Copy {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the blob `{digest}`")]
    Read {
        digest: Digest,
        #[source]
        source: io::Error,
    },
}

impl Source for LayoutSource {
    fn name(&self) -> String {
        format!("{}:{}", self.name, self.channel[1])
    }

    async fn look(&self, known: Option<&Digest>, _wait: Duration) -> Result<Look, SourceError> {
        let (names, known) = (self.channel.clone(), known.cloned());
        self.blocking(move |content| {
            let mut manifests = content.manifests()?;
            // A release that is alone but for its signatures may do without a name all the same.
            manifests.retain(|found| found.artifact_type.as_deref() != Some(media_type::SIGNATURE));
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let Some(Descriptor { digest, .. }) = named(&manifests, &names) else {
                return Ok(Look::Missing);
            };
            // Nobody tells when a file changes; the poll interval is the pause.
            if known.as_ref() == Some(digest) {
                return Ok(Look::Unchanged { waited: false });
            }
            Ok(Look::Manifest {
                id: digest.clone(),
                bytes: read(content, digest, MANIFEST_MAX)?,
            })
        })
        .await
    }

    async fn document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, SourceError> {
        let digest = descriptor.digest.clone();
        self.blocking(move |content| read(content, &digest, limit))
            .await
    }

    async fn signatures(&self, release: &Digest) -> Result<Vec<Signature>, SourceError> {
        let release = release.clone();
        self.blocking(move |content| {
            let found = signing::in_layout(content, &release)?.into_iter();
            Ok(found.map(|stored| stored.signature).collect())
        })
        .await
    }

    async fn fetch(&self, download: Download<'_>) -> Result<(), SourceError> {
        let (digest, path) = (download.digest.clone(), download.path.to_owned());
        let (size, progress) = (download.size, download.progress.clone());
        let copied = move |content: &dyn Content| {
            let download = Download {
                digest: &digest,
                size,
                path: &path,
                progress: &progress,
            };
            copy(content, download)
        };
        self.blocking(copied).await
    }
}

fn open(content: &dyn Content, digest: &Digest) -> Result<Box<dyn Read + Send>, LayoutSourceError> {
    let blob = content.open(digest)?;
    blob.ok_or_else(|| LayoutSourceError::Missing(digest.clone()))
}

/// Returns a small blob, verified.
fn read(content: &dyn Content, digest: &Digest, limit: u64) -> Result<Vec<u8>, LayoutSourceError> {
    let mut bytes = Vec::new();
    open(content, digest)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| LayoutSourceError::Read {
            digest: digest.clone(),
            source,
        })?;
    if bytes.len() as u64 > limit {
        return Err(LayoutSourceError::TooLarge {
            digest: digest.clone(),
            limit,
        });
    }
    verify(digest, Digest::of(digest.algorithm(), &bytes))?;
    Ok(bytes)
}

/// Copies a blob to a file, verified and synced. What the file held does not count: reading it
/// again costs as much as copying it again.
fn copy(content: &dyn Content, download: Download<'_>) -> Result<(), LayoutSourceError> {
    let Download {
        digest,
        size,
        path,
        progress,
    } = download;
    let failed = |source| LayoutSourceError::Copy {
        path: path.to_owned(),
        source,
    };
    // One byte more shows that there are too many.
    let mut blob = open(content, digest)?.take(size.saturating_add(1));
    forget_download(path);
    let mut file = File::create(path).map_err(failed)?;
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; COPY_BUFFER];
    let mut position = 0;
    loop {
        let count = blob.read(&mut buffer);
        let count = count.map_err(|source| LayoutSourceError::Read {
            digest: digest.clone(),
            source,
        })?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(failed)?;
        position += count as u64;
        progress.report(position);
    }
    let verified = verify(digest, hasher.finish());
    if verified.is_err() {
        // Best effort: the error that counts is the one at hand.
        std::fs::remove_file(path).ok();
    }
    verified?;
    file.sync_all().map_err(failed)
}

fn verify(expected: &Digest, found: Digest) -> Result<(), LayoutSourceError> {
    if found == *expected {
        return Ok(());
    }
    Err(LayoutSourceError::Digest {
        expected: expected.clone(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use deployctl::{client::Progress, layout::Layout};

    use super::*;

    fn source(layout: &Layout) -> LayoutSource {
        let name = "project".parse().unwrap();
        let content = layout.clone();
        LayoutSource::new(
            content,
            "layout".to_owned(),
            &Prefix::default(),
            &name,
            &Channel::latest(),
        )
    }

    fn list(layout: &Layout, content: &[u8], name: &str) -> Digest {
        let digest = Digest::sha256(content);
        layout.put_blob(&digest, content).unwrap();
        let size = content.len() as u64;
        let descriptor = Descriptor::new(media_type::IMAGE_MANIFEST, digest.clone(), size);
        layout
            .list(&descriptor, Some(&name.parse().unwrap()))
            .unwrap();
        digest
    }

    #[tokio::test]
    async fn channel_is_looked_up_by_its_name() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::create(place.path()).unwrap();
        let source = source(&layout);
        let look = source.look(None, Duration::ZERO).await.unwrap();
        assert_eq!(look, Look::Missing);
        list(&layout, b"other", "stable");
        let one = list(&layout, b"one", "latest");
        let look = source.look(None, Duration::ZERO).await.unwrap();
        assert!(matches!(look, Look::Manifest { id, bytes } if id == one && bytes == b"one"));
        let look = source.look(Some(&one), Duration::ZERO).await.unwrap();
        assert_eq!(look, Look::Unchanged { waited: false });
        list(&layout, b"two", "latest");
        let look = source.look(Some(&one), Duration::ZERO).await.unwrap();
        assert!(matches!(look, Look::Manifest { bytes, .. } if bytes == b"two"));
    }

    #[tokio::test]
    async fn damaged_blobs_are_refused_and_not_kept() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::create(place.path()).unwrap();
        let source = source(&layout);
        let digest = list(&layout, b"content", "latest");
        let target = place.path().join("target");
        // What a registry has sent before does not count.
        std::fs::write(place.path().join("target.state"), "of other bytes").unwrap();
        let download = Download {
            digest: &digest,
            size: 7,
            path: &target,
            progress: &Progress::none(),
        };
        source.fetch(download).await.unwrap();
        assert!(!place.path().join("target.state").exists());
        assert_eq!(std::fs::read(&target).unwrap(), b"content");
        for damaged in [&b"contenT"[..], b"content and more", b"con"] {
            std::fs::write(layout.blob_path(&digest), damaged).unwrap();
            let error = source.fetch(download).await.unwrap_err();
            assert!(error.to_string().contains("damaged"), "{error}");
            assert!(!target.exists());
            let descriptor = Descriptor::new(media_type::IMAGE_CONFIG, digest.clone(), 7);
            source.document(&descriptor, 100).await.unwrap_err();
        }
        std::fs::remove_file(layout.blob_path(&digest)).unwrap();
        let error = source.fetch(download).await.unwrap_err();
        assert!(error.to_string().contains("does not have"), "{error}");
    }
}
