//! How far a download is hashed, kept beside its file, so that going on reads no more of it than
//! what came since. Used by `download`.

use std::{
    io,
    path::{Path, PathBuf},
};

use deploy_spec::{Digest, Hasher};
use serde::{Deserialize, Serialize};
use tokio::{fs::File, io::AsyncReadExt};

/// Ends the name of the file that tells it.
const SUFFIX: &str = ".state";
/// Ends the name under which that file is written.
const NEW_SUFFIX: &str = ".state.new";
/// How many bytes come between two times that it is saved: what a killed program leaves is read
/// again as far as that at most, in the twentieth of a second.
const EVERY: u64 = 64 * 1024 * 1024;
/// What else is read was written by nobody here.
const VERSION: u32 = 1;
/// More than any such file has.
const BYTES_MAX: u64 = 4 * 1024;
/// Changes whenever the system starts.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What is saved beside one download's file.
///
/// It tells of bytes that were handed to the file before, and counts until the system starts
/// anew: neither is synced while bytes come, so a power cut may take the file's bytes and leave
/// what tells of them. Whatever cannot be read, is of another version, digest or start of the
/// system, tells of more bytes than there are, or is damaged, is as if it were not there. Saving
/// is best effort: without it everything is read again.
pub(super) struct SavedHash {
    path: PathBuf,
    new: PathBuf,
    digest: Digest,
    /// Of how many bytes it tells.
    offset: u64,
}

/// As it lies there; in JSON.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    boot: String,
    digest: Digest,
    /// How many bytes were hashed.
    offset: u64,
    /// The hasher after them, in hexadecimal digits.
    hasher: String,
}

impl SavedHash {
    /// Returns what is saved beside the file at `path`, into which a blob comes. Reads nothing yet.
    pub(super) fn beside(path: &Path, digest: &Digest) -> Self {
        Self {
            path: with_suffix(path, SUFFIX),
            new: with_suffix(path, NEW_SUFFIX),
            digest: digest.clone(),
            offset: 0,
        }
    }

    /// Returns how many bytes of a file of `length` bytes need not be read, and a hasher that has
    /// seen them: none, and a new one, where nothing usable is saved.
    pub(super) async fn load(&mut self, length: u64) -> (u64, Hasher) {
        let usable = self.read().await.filter(|(offset, _)| *offset <= length);
        let (offset, hasher) = usable.unwrap_or_else(|| (0, Hasher::new(self.digest.algorithm())));
        self.offset = offset;
        (offset, hasher)
    }

    async fn read(&self) -> Option<(u64, Hasher)> {
        let bytes = read_small(&self.path).await.ok()?;
        let document: Document = serde_json::from_slice(&bytes).ok()?;
        let counts = document.version == VERSION
            && document.digest == self.digest
            && document.boot == boot_id().await?;
        let state = hex::decode(&document.hasher).ok().filter(|_| counts)?;
        let hasher = Hasher::resume(self.digest.algorithm(), &state).ok()?;
        Some((document.offset, hasher))
    }

    /// Whether so much has come since it was saved that it ought to be again.
    pub(super) fn is_due(&self, offset: u64) -> bool {
        offset >= self.offset.saturating_add(EVERY)
    }

    /// Saves that `hasher` has seen the first `offset` bytes, all of which the file has been
    /// handed. A reader finds this or what was saved before.
    pub(super) async fn save(&mut self, offset: u64, hasher: &Hasher) {
        if offset <= self.offset {
            return;
        }
        // Tried again when as much has come once more.
        self.offset = offset;
        let Some(boot) = boot_id().await else { return };
        let document = Document {
            version: VERSION,
            boot,
            digest: self.digest.clone(),
            offset,
            hasher: hex::encode(hasher.state()),
        };
        let bytes = serde_json::to_vec(&document).expect("numbers and texts become JSON");
        let written = match tokio::fs::write(&self.new, bytes).await {
            Ok(()) => tokio::fs::rename(&self.new, &self.path).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::debug!(path = %self.path.display(), %error, "cannot save the hash of a download");
            tokio::fs::remove_file(&self.new).await.ok();
        }
    }

    /// Removes it, where it is there.
    pub(super) async fn remove(&mut self) {
        self.offset = 0;
        // What stays is found not to fit the next file of that name.
        tokio::fs::remove_file(&self.path).await.ok();
        tokio::fs::remove_file(&self.new).await.ok();
    }
}

/// Removes what a download into the file at `path` may have saved beside it: for whoever writes
/// the file by other means, or removes it. Nothing happens where nothing is saved.
pub fn forget_download(path: &Path) {
    for suffix in [SUFFIX, NEW_SUFFIX] {
        // What stays is found not to fit the next file of that name.
        std::fs::remove_file(with_suffix(path, suffix)).ok();
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

async fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).await?;
    file.take(BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Nothing where a system does not tell: then nothing is saved.
async fn boot_id() -> Option<String> {
    let bytes = read_small(Path::new(BOOT_ID)).await.ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use deploy_spec::Algorithm;

    use super::*;

    const CONTENT: &[u8] = b"the beginning of a blob";

    fn hasher(algorithm: Algorithm) -> Hasher {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(CONTENT);
        hasher
    }

    fn saved(place: &Path, digest: &Digest) -> SavedHash {
        SavedHash::beside(&place.join("blob.part"), digest)
    }

    /// Returns a directory where the hash of `CONTENT` is saved, and the digest.
    async fn with_saved(algorithm: Algorithm) -> (tempfile::TempDir, Digest) {
        let place = tempfile::tempdir().unwrap();
        let digest = Digest::of(algorithm, b"all of it");
        let length = CONTENT.len() as u64;
        saved(place.path(), &digest)
            .save(length, &hasher(algorithm))
            .await;
        (place, digest)
    }

    #[tokio::test]
    async fn what_is_saved_counts_for_files_as_long_as_it_and_longer_ones() {
        for algorithm in Algorithm::ALL {
            let (place, digest) = with_saved(algorithm).await;
            let length = CONTENT.len() as u64;
            for (length, expected) in [(length - 1, 0), (length, length), (length + 1, length)] {
                let (offset, hasher) = saved(place.path(), &digest).load(length).await;
                assert_eq!(offset, expected);
                let seen = &CONTENT[..usize::try_from(offset).unwrap()];
                assert_eq!(hasher.finish(), Digest::of(algorithm, seen));
            }
            let other = Digest::of(algorithm, b"something else");
            assert_eq!(saved(place.path(), &other).load(length).await.0, 0);
            let names = std::fs::read_dir(place.path()).unwrap();
            let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["blob.part.state"]);
            saved(place.path(), &digest).remove().await;
            assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn whatever_is_not_as_it_was_written_is_as_if_it_were_not_there() {
        let (place, digest) = with_saved(Algorithm::Sha256).await;
        let path = place.path().join("blob.part.state");
        let good = std::fs::read_to_string(&path).unwrap();
        let longer = Hasher::new(Algorithm::Sha512).state();
        let own = hex::encode(hasher(Algorithm::Sha256).state());
        let boot = boot_id().await.unwrap();
        let changed = [
            String::new(),
            good[..good.len() / 2].to_owned(),
            "x".repeat(100_000),
            good.replace("\"version\":1", "\"version\":2"),
            good.replace(&boot, "another one"),
            good.replace(&own, &own[2..]),
            good.replace(&own, &own.replace('0', "1")),
            good.replace(&own, &hex::encode(longer)),
            good.replace("\"offset\":", "\"offset\":-"),
        ];
        for text in changed {
            assert_ne!(text, good);
            std::fs::write(&path, &text).unwrap();
            let (offset, hasher) = saved(place.path(), &digest).load(1000).await;
            assert_eq!(offset, 0, "{text}");
            assert_eq!(hasher.finish(), Digest::sha256(b""));
        }
        std::fs::write(&path, &good).unwrap();
        let length = CONTENT.len() as u64;
        assert_eq!(saved(place.path(), &digest).load(1000).await.0, length);
        forget_download(&place.path().join("blob.part"));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn it_is_due_now_and_then_and_never_goes_back() {
        let (place, digest) = with_saved(Algorithm::Sha256).await;
        let length = CONTENT.len() as u64;
        let mut saved = saved(place.path(), &digest);
        assert_eq!(saved.load(1000).await.0, length);
        assert!(!saved.is_due(EVERY) && saved.is_due(EVERY + length));
        saved
            .save(length - 1, &Hasher::new(Algorithm::Sha256))
            .await;
        assert_eq!(saved.load(1000).await.0, length);
        // Where nothing can be written, nothing happens.
        let gone = place.path().join("not there").join("blob");
        let mut saved = SavedHash::beside(&gone, &digest);
        saved.save(length, &hasher(Algorithm::Sha256)).await;
        assert_eq!(saved.load(1000).await.0, 0);
    }
}
