//! Archives made entry by entry, which no tar program would write. Called by the scenarios; `hostile` has those
//! that are meant badly.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};

/// An archive under construction.
pub struct Archive {
    builder: tar::Builder<Vec<u8>>,
    owner: (u64, u64),
    modified: u64,
}

impl Default for Archive {
    fn default() -> Self {
        Self::new()
    }
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self {
            builder: tar::Builder::new(Vec::new()),
            owner: (0, 0),
            modified: 1_000_000_000,
        }
    }

    /// Gives the entries from here on to a numeric user and group.
    #[must_use]
    pub fn owner(mut self, user: u64, group: u64) -> Self {
        self.owner = (user, group);
        self
    }

    /// Gives the entries from here on a modification time, in seconds since 1970.
    #[must_use]
    pub fn modified(mut self, seconds: u64) -> Self {
        self.modified = seconds;
        self
    }

    /// Adds a file with mode 0644.
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, content.as_ref())
    }

    /// Adds a directory with mode 0755.
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", 0o755, b"")
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symbolic_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    /// Adds a hard link to an entry before it.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    /// Adds an entry of any kind, with the names exactly as given: the `tar` crate would refuse bad ones. Both
    /// names have to fit into a header, which is 100 bytes.
    #[must_use]
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        target: &str,
        mode: u32,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_ustar();
        {
            let raw = header.as_old_mut();
            raw.name[..path.len()].copy_from_slice(path.as_bytes());
            raw.linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(self.modified);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.builder
            .append(&header, content)
            .expect("writing to memory does not fail");
        self
    }

    /// The bytes of the archive.
    pub fn tar(self) -> Vec<u8> {
        self.builder
            .into_inner()
            .expect("writing to memory does not fail")
    }

    /// The bytes of the archive, compressed with gzip.
    pub fn gzip(self) -> Vec<u8> {
        gzip(&self.tar())
    }
}

/// Compresses bytes with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

/// Compresses bytes with Zstandard.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("writing to memory does not fail")
}
