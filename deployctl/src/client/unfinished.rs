//! Uploads that have begun and are not over, each a file in a directory: the next program goes on
//! where a killed one stopped. Used by `sending`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use deploy_spec::Digest;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use url::Url;

use super::sessions::Session;

/// What else is read was written by nobody here.
const VERSION: u32 = 1;
/// Registries forget sessions long before.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// More than the lines of any upload have.
const BYTES_MAX: u64 = 1024 * 1024;

/// What is kept of one upload, held by one process at a time.
///
/// It is best effort: where it cannot be written or read, or somebody else holds it, uploads begin
/// anew. Locations may hold secrets of the registry's, so nobody else may read them.
pub(super) struct Unfinished {
    /// Locked.
    file: Arc<File>,
    path: PathBuf,
}

/// A state of the upload, a line of JSON; the last whole one counts.
#[derive(Serialize, Deserialize)]
struct Line {
    version: u32,
    location: Url,
    #[serde(default)]
    chunk_min: u64,
}

impl Unfinished {
    /// Takes hold of what is kept of the upload with this name, and returns the session that is
    /// known, whose offset is not. Nothing where another process is at it, or it cannot be kept.
    pub(super) async fn hold(directory: &Path, name: &str) -> Option<(Self, Option<Session>)> {
        let digest = Digest::sha256(name.as_bytes());
        let (directory, path) = (directory.to_owned(), directory.join(digest.hex()));
        let held = spawn_blocking(move || {
            create(&directory)?;
            remove_old(&directory)?;
            let Some(file) = lock(&path)? else {
                return Ok(None);
            };
            let known = read(&file)?;
            let file = Arc::new(file);
            Ok::<_, io::Error>(Some((Self { file, path }, known)))
        });
        match held.await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot keep which uploads are under way");
                None
            }
            Err(_) => None,
        }
    }

    /// Keeps the state that the upload is in.
    pub(super) async fn note(&self, session: &Session) {
        let line = Line {
            version: VERSION,
            location: session.location.clone(),
            chunk_min: session.chunk_min,
        };
        let mut line = serde_json::to_vec(&line).expect("numbers and texts become JSON");
        line.push(b'\n');
        let file = self.file.clone();
        // One that cannot be written is the one before.
        drop(spawn_blocking(move || (&*file).write_all(&line)).await);
    }

    /// Removes what is kept: there is nothing to go on with.
    pub(super) async fn forget(self) {
        drop(tokio::fs::remove_file(&self.path).await);
    }
}

fn create(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)
}

/// Returns the file of an upload, locked until it is closed; nothing where somebody else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let options = options.read(true).append(true).create(true).mode(0o600);
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Returns the session that a file tells of; nothing where it tells of none.
fn read(mut file: &File) -> io::Result<Option<Session>> {
    let mut text = Vec::new();
    file.rewind()?;
    file.take(BYTES_MAX).read_to_end(&mut text)?;
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let whole = lines.rev().find(|line| line.ends_with(b"\n"));
    let line = whole.and_then(|line| serde_json::from_slice::<Line>(line).ok());
    let line = line.filter(|line| line.version == VERSION);
    Ok(line.map(|line| Session {
        location: line.location,
        offset: 0,
        chunk_min: line.chunk_min,
    }))
}

/// Removes what nobody came back to.
fn remove_old(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let modified = entry.metadata()?.modified()?;
        let age = SystemTime::now().duration_since(modified);
        if age.is_ok_and(|age| age > AGE_MAX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(location: &str) -> Session {
        Session {
            location: location.parse().unwrap(),
            offset: 0,
            chunk_min: 7,
        }
    }

    async fn known(directory: &Path, name: &str) -> Option<String> {
        let (_, known) = Unfinished::hold(directory, name).await.unwrap();
        known.map(|known| known.location.to_string())
    }

    #[tokio::test]
    async fn the_last_state_is_known_until_it_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("not/yet");
        assert_eq!(known(&directory, "a").await, None);
        let (unfinished, _) = Unfinished::hold(&directory, "a").await.unwrap();
        unfinished.note(&session("http://a/1")).await;
        unfinished.note(&session("http://a/2")).await;
        drop(unfinished);
        let (unfinished, found) = Unfinished::hold(&directory, "a").await.unwrap();
        let found = found.unwrap();
        assert_eq!(
            (found.location.as_str(), found.chunk_min),
            ("http://a/2", 7)
        );
        assert_eq!(known(&directory, "b").await, None);
        unfinished.forget().await;
        assert_eq!(known(&directory, "a").await, None);
    }

    #[tokio::test]
    async fn one_at_a_time_has_it() {
        let place = tempfile::tempdir().unwrap();
        let held = Unfinished::hold(place.path(), "a").await;
        assert!(held.is_some());
        assert!(Unfinished::hold(place.path(), "a").await.is_none());
        drop(held);
        assert!(Unfinished::hold(place.path(), "a").await.is_some());
    }

    #[tokio::test]
    async fn what_is_damaged_or_old_is_as_if_it_were_not_there() {
        let place = tempfile::tempdir().unwrap();
        let (unfinished, _) = Unfinished::hold(place.path(), "a").await.unwrap();
        unfinished.note(&session("http://a/1")).await;
        unfinished.note(&session("http://a/2")).await;
        let path = unfinished.path.clone();
        drop(unfinished);
        let good = fs::read(&path).unwrap();
        // Killed while it was written: the one before counts.
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert_eq!(
            known(place.path(), "a").await.as_deref(),
            Some("http://a/1")
        );
        for damaged in [&b"\n"[..], b"{}\n", b"garbage", &[0xff; 100]] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(known(place.path(), "a").await, None);
        }
        fs::write(&path, &good).unwrap();
        let long_ago = SystemTime::now() - AGE_MAX - Duration::from_secs(60);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(long_ago).unwrap();
        assert_eq!(known(place.path(), "a").await, None);
        // Where there is no room, nothing is kept.
        fs::write(place.path().join("file"), "").unwrap();
        let nowhere = place.path().join("file/below");
        assert!(Unfinished::hold(&nowhere, "a").await.is_none());
    }
}
