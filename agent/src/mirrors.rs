//! A source whose content may come from elsewhere: blobs from mirrors, in order, before the
//! source itself is asked. Made by `main`.

use std::time::Duration;

use deploy_spec::{Descriptor, Digest, signature::Signature};

use crate::source::{Download, Look, Source, SourceError};

/// A source and its mirrors.
///
/// What the channel is, the source alone says: a mirror that lags behind would take hosts back to
/// an old release. Content is known by its digest and verified, whoever sends it.
#[derive(Clone, Debug)]
pub struct Mirrored<S> {
    source: S,
    mirrors: Vec<S>,
}

impl<S: Source> Mirrored<S> {
    /// Returns the source with its mirrors, the first one to be asked first.
    pub fn new(source: S, mirrors: Vec<S>) -> Self {
        Self { source, mirrors }
    }
}

/// Says that somebody else is asked.
fn passed_on(mirror: &impl Source, digest: &Digest, error: &SourceError) {
    tracing::warn!(
        blob.digest = %digest,
        "`{}` is no help: {}; asking the next one",
        mirror.name(),
        error.to_string().replace('\n', "; ")
    );
}

impl<S: Source> Source for Mirrored<S> {
    fn name(&self) -> String {
        self.source.name()
    }

    async fn look(&self, known: Option<&Digest>, wait: Duration) -> Result<Look, SourceError> {
        self.source.look(known, wait).await
    }

    async fn document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, SourceError> {
        for mirror in &self.mirrors {
            match mirror.document(descriptor, limit).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => passed_on(mirror, &descriptor.digest, &error),
            }
        }
        self.source.document(descriptor, limit).await
    }

    /// Signatures prove themselves, whoever has them. They are looked for where the channel is:
    /// a mirror may have got the release before them.
    async fn signatures(&self, release: &Digest) -> Result<Vec<Signature>, SourceError> {
        let first = self.source.signatures(release).await;
        if first.as_ref().is_ok_and(|found| !found.is_empty()) {
            return first;
        }
        for mirror in &self.mirrors {
            match mirror.signatures(release).await {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => {}
                Err(error) => passed_on(mirror, release, &error),
            }
        }
        first
    }

    async fn fetch(&self, download: Download<'_>) -> Result<(), SourceError> {
        for mirror in &self.mirrors {
            match mirror.fetch(download).await {
                Ok(()) => return Ok(()),
                // Nobody else has another disk.
                Err(error) if error.is_storage_full() => return Err(error),
                // What came of it stays in the file, and the next one sends the rest.
                Err(error) => passed_on(mirror, download.digest, &error),
            }
        }
        self.source.fetch(download).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use deployctl::client::Progress;

    use super::*;

    /// Sends so many bytes of everything, and remembers in which order it was asked.
    #[derive(Clone)]
    struct Sends {
        name: &'static str,
        bytes: usize,
        asked: Arc<Mutex<Vec<&'static str>>>,
    }

    const CONTENT: &[u8] = b"0123456789";

    fn failed(text: &str) -> SourceError {
        SourceError::new(io::Error::other(text.to_owned()))
    }

    impl Source for Sends {
        fn name(&self) -> String {
            self.name.to_owned()
        }

        async fn look(&self, _: Option<&Digest>, _: Duration) -> Result<Look, SourceError> {
            self.asked.lock().unwrap().push(self.name);
            Ok(Look::Missing)
        }

        async fn document(&self, _: &Descriptor, _: u64) -> Result<Vec<u8>, SourceError> {
            self.asked.lock().unwrap().push(self.name);
            match self.bytes {
                10 => Ok(CONTENT.to_vec()),
                _ => Err(failed("away")),
            }
        }

        async fn signatures(&self, _: &Digest) -> Result<Vec<Signature>, SourceError> {
            self.asked.lock().unwrap().push(self.name);
            let signature = Signature {
                statement: CONTENT.to_vec(),
                armored: Vec::new(),
            };
            match self.bytes {
                10 => Ok(vec![signature]),
                5 => Ok(Vec::new()),
                _ => Err(failed("away")),
            }
        }

        async fn fetch(&self, download: Download<'_>) -> Result<(), SourceError> {
            let path = download.path;
            self.asked.lock().unwrap().push(self.name);
            let there = fs::metadata(path).map_or(0, |metadata| metadata.len() as usize);
            let mut file = OpenOptions::new().append(true).create(true).open(path);
            let file = file.as_mut().unwrap();
            file.write_all(&CONTENT[there..self.bytes.max(there)])
                .unwrap();
            match self.bytes {
                10 => Ok(()),
                _ => Err(failed("broken")),
            }
        }
    }

    #[tokio::test]
    async fn content_comes_from_the_first_that_has_it_and_the_channel_from_the_source() {
        let asked = Arc::default();
        let sends = |name, bytes| Sends {
            name,
            bytes,
            asked: Arc::clone(&asked),
        };
        let mirrors = vec![sends("empty", 0), sends("half", 5), sends("whole", 10)];
        let source = Mirrored::new(sends("source", 10), mirrors);
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("blob");
        let digest = Digest::sha256(CONTENT);
        let download = Download {
            digest: &digest,
            size: 10,
            path: &path,
            progress: &Progress::none(),
        };
        source.fetch(download).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), CONTENT);
        let take = || std::mem::take(&mut *asked.lock().unwrap());
        assert_eq!(take(), ["empty", "half", "whole"]);
        source.look(None, Duration::ZERO).await.unwrap();
        assert_eq!(
            (take(), source.name()),
            (vec!["source"], "source".to_owned())
        );
        source.signatures(&digest).await.unwrap();
        assert_eq!(take(), ["source"]);
        let mirrors = vec![sends("empty", 0), sends("half", 5), sends("whole", 10)];
        for bytes in [0, 5] {
            let source = Mirrored::new(sends("source", bytes), mirrors.clone());
            assert_eq!(source.signatures(&digest).await.unwrap().len(), 1);
            assert_eq!(take(), ["source", "empty", "half", "whole"]);
        }
        let source = Mirrored::new(sends("source", 0), vec![sends("half", 5)]);
        source.signatures(&digest).await.unwrap_err();
        take();
        let source = Mirrored::new(sends("source", 10), vec![sends("half", 5)]);
        fs::remove_file(&path).unwrap();
        source.fetch(download).await.unwrap();
        assert_eq!(take(), ["half", "source"]);
    }
}
