//! The tests that go through the whole of `archive`, and what they share. One file a subject;
//! the pure parts have their tests beside them.

mod arriving;
mod compared;
mod flattened;
mod hostile;
mod images;
mod inspected;
mod layered;
mod linked;
mod packed;
mod pieces;
mod returned;
mod taken_over;
mod written;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use deploy_spec::Digest;

use super::{ArchiveError, Dialect, LayerSource, UnpackOptions, Unpacked, remove_tree, unpack};

/// Makes archives entry by entry, the wrong ones too.
#[derive(Clone, Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Appends a header block and content, whatever they say.
    pub(super) fn raw(
        mut self,
        flag: u8,
        name: &[u8],
        link: &[u8],
        content: &[u8],
        change: impl Fn(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        header.as_mut_bytes()[156] = flag;
        header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
        header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getegid().as_raw()));
        header.set_mtime(1_500_000_000);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, content: &str) -> Self {
        self.raw(b'0', name.as_bytes(), b"", content.as_bytes(), |_| {})
    }

    pub(super) fn directory(self, name: &str) -> Self {
        self.raw(b'5', name.as_bytes(), b"", b"", |_| {})
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(b'2', name.as_bytes(), target.as_bytes(), b"", |_| {})
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        self.raw(b'1', name.as_bytes(), target.as_bytes(), b"", |_| {})
    }

    /// Appends a PAX header for the entry to come.
    pub(super) fn pax(self, records: &[(&str, &str)]) -> Self {
        self.records(b'x', records)
    }

    pub(super) fn records(self, flag: u8, records: &[(&str, &str)]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            super::emit::push_record(&mut bytes, key.as_bytes(), value.as_bytes());
        }
        self.raw(flag, b"PaxHeader", b"", &bytes, |_| {})
    }

    /// Returns the bytes without an end.
    pub(super) fn unfinished(self) -> Vec<u8> {
        self.0
    }

    /// Returns the bytes with the two blocks of zeros at the end.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A directory with a root to unpack into and something outside that must stay as it is.
pub(super) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::write(directory.path().join("outside"), "untouched").unwrap();
        Self { directory }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Writes the archives to files and returns them as layers `l0`, `l1`, ….
    pub(super) fn layers(&self, archives: &[Vec<u8>]) -> Vec<LayerSource> {
        let write = |(index, bytes): (usize, &Vec<u8>)| {
            let path = self.directory.path().join(format!("layer{index}"));
            fs::write(&path, bytes).unwrap();
            LayerSource {
                name: format!("l{index}"),
                path,
                growing: None,
                digest: Digest::sha256(bytes),
                size: Some(bytes.len() as u64),
                diff_id: None,
                dialect: Dialect::Own,
            }
        };
        archives.iter().enumerate().map(write).collect()
    }

    pub(super) fn unpack(
        &self,
        archives: &[Vec<u8>],
        options: &UnpackOptions,
    ) -> Result<Unpacked, ArchiveError> {
        unpack(&self.layers(archives), &self.root(), options)
    }
}

/// Returns one line for each name below `root`, sorted: what it is, and what is in it.
pub(super) fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.mode() & 0o7777;
            let mtime = metadata.mtime();
            if metadata.is_dir() {
                lines.push(format!("{name}/ {mode:o} @{mtime}"));
                open.push(path);
            } else if metadata.is_symlink() {
                lines.push(format!(
                    "{name} -> {} @{mtime}",
                    fs::read_link(&path).unwrap().display()
                ));
            } else {
                let content = fs::read(&path).unwrap();
                lines.push(format!(
                    "{name} {mode:o} @{mtime} {}",
                    Digest::sha256(&content).short()
                ));
            }
        }
    }
    lines.sort();
    lines
}
