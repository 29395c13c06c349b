//! Layers as fetched. A file under its final name was verified when it came, and is verified
//! again, by its digest, whenever it is unpacked. Called by `deployer`, and by verbs in their turn.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use deploy_spec::{Algorithm, Digest};
use deployctl::{
    archive::{Grower, Growing, remove_tree},
    client::Progress,
};

use crate::{
    directory::{Directory, entries},
    error::AgentError,
    file::sync_directory,
    source::{Download, Source},
};

/// Ends the names of files that are not complete.
const PART: &str = ".part";

/// The cache of a directory.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Returns the cache in an agent's directory.
    pub(crate) fn of(directory: &Directory) -> Self {
        Self {
            root: directory.cache(),
        }
    }

    /// Returns the cache in any other directory.
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Whether a blob is there, of this size where it is known. Content is compared when it is
    /// unpacked.
    pub(crate) fn has(&self, digest: &Digest, size: Option<u64>) -> bool {
        let found = fs::metadata(self.path(digest));
        found.is_ok_and(|found| size.is_none_or(|size| found.len() == size))
    }

    /// Returns where a blob is, or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join(digest.algorithm().as_str())
            .join(digest.hex())
    }

    /// Returns how many bytes of a blob would still have to come; nothing where it is there.
    pub(crate) fn missing(&self, digest: &Digest, size: u64) -> Option<u64> {
        if self.has(digest, Some(size)) {
            return None;
        }
        let part = fs::metadata(self.part(digest));
        let part = part.map_or(0, |part| part.len());
        // A part that is longer than the whole begins anew in its own place.
        Some(size.saturating_sub(part))
    }

    fn part(&self, digest: &Digest) -> PathBuf {
        let mut path = self.path(digest).into_os_string();
        path.push(PART);
        path.into()
    }

    /// Opens what there is of a blob that is going to be fetched, maybe nothing, for whoever reads
    /// it while it comes.
    pub(crate) fn begin(&self, digest: &Digest) -> Result<(Growing, Grower), AgentError> {
        self.create_directory(digest)?;
        let part = self.part(digest);
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&part);
        Ok(Growing::new(file.map_err(AgentError::io("open", &part))?))
    }

    fn create_directory(&self, digest: &Digest) -> Result<PathBuf, AgentError> {
        let directory = self.root.join(digest.algorithm().as_str());
        fs::create_dir_all(&directory).map_err(AgentError::io("create directory", &directory))?;
        Ok(directory)
    }

    /// Brings a blob into the cache; returns whether it had to come from the source. What came
    /// before an interruption is not asked for again.
    pub(crate) async fn fetch(
        &self,
        source: &impl Source,
        digest: &Digest,
        size: u64,
        progress: &Progress,
    ) -> Result<bool, AgentError> {
        let path = self.path(digest);
        if self.has(digest, Some(size)) {
            return Ok(false);
        }
        let directory = self.create_directory(digest)?;
        let part = self.part(digest);
        let download = Download {
            digest,
            size,
            path: &part,
            progress,
        };
        source.fetch(download).await?;
        fs::rename(&part, &path).map_err(AgentError::io("rename", &part))?;
        sync_directory(&directory)?;
        Ok(true)
    }

    /// Removes a blob whose bytes are not its own.
    pub(crate) fn discard(&self, digest: &Digest) -> Result<(), AgentError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(AgentError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes every blob, and every part of one, but those of `kept`.
    pub(crate) fn remove_but(&self, kept: &[&Digest]) -> Result<(), AgentError> {
        for path in self.others(kept)? {
            tracing::debug!(blob.path = %path.display(), "removing from the cache");
            remove_tree(&path).map_err(AgentError::Remove)?;
        }
        Ok(())
    }

    /// Returns the files of all blobs, of parts of them and of what is saved beside those, but of
    /// `kept`.
    pub(crate) fn others(&self, kept: &[&Digest]) -> Result<Vec<PathBuf>, AgentError> {
        let mut others = Vec::new();
        for algorithm in Algorithm::ALL {
            for (name, path) in entries(&self.root.join(algorithm.as_str()))? {
                // A part has files beside it that tell how far it is hashed.
                let hex = name.split_once('.').map_or(&*name, |(hex, _)| hex);
                let is = |digest: &&&Digest| digest.algorithm() == algorithm && digest.hex() == hex;
                if !kept.iter().any(|digest| is(&digest)) {
                    others.push(path);
                }
            }
        }
        Ok(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_a_part_stays_and_goes_with_it_and_is_no_layer() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::at(place.path());
        let (kept, other) = (Digest::sha256(b"kept"), Digest::sha256(b"other"));
        fs::create_dir(place.path().join("sha256")).unwrap();
        let paths = |digest: &Digest| {
            ["", ".part", ".part.state", ".part.state.new"].map(|suffix| {
                let name = format!("{}{suffix}", digest.hex());
                place.path().join("sha256").join(name)
            })
        };
        for path in paths(&kept)[1..].iter().chain(&paths(&other)) {
            fs::write(path, "four").unwrap();
        }
        assert!(!cache.has(&kept, None) && cache.has(&other, Some(4)));
        assert_eq!(cache.missing(&kept, 10), Some(6));
        let mut others = cache.others(&[&kept]).unwrap();
        others.sort();
        assert_eq!(others, paths(&other));
        cache.remove_but(&[&kept]).unwrap();
        assert!(paths(&kept)[1..].iter().all(|path| path.exists()));
        assert!(!paths(&other).iter().any(|path| path.exists()));
    }
}
