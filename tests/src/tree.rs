//! What a directory holds, entry for entry, for comparisons. Called by the scenarios.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// What is known about one entry. Two entries that are equal cannot be told apart by a program that reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `file`, `directory`, `link`, `fifo` or `device`.
    pub kind: &'static str,
    /// The permission bits with set-id and sticky.
    pub mode: u32,
    /// Numeric owner and group.
    pub owner: (u32, u32),
    /// The size of a file; 0 for others, where it is the file system's affair.
    pub size: u64,
    /// The target of a symbolic link.
    pub target: Option<String>,
    /// SHA-256 of a file's content.
    pub content: Option<String>,
    /// Seconds of the modification time.
    pub modified: i64,
    /// The first name, in order, of the other names this file has within the tree.
    pub linked: Option<String>,
    /// Extended attributes of a file or directory with their values in hexadecimal digits, but for
    /// the labels that a security module gives by itself.
    pub attributes: BTreeMap<String, String>,
}

/// The entries below a directory, by their path relative to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Path, with `/` between names, to what stands there.
    pub entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// Lists what stands below `root`; nothing, where that does not exist.
    ///
    /// # Panics
    /// When something in it cannot be read.
    pub fn of(root: impl AsRef<Path>) -> Self {
        let mut tree = Self::default();
        let mut names: BTreeMap<(u64, u64), String> = BTreeMap::new();
        if root.as_ref().exists() {
            tree.add(root.as_ref(), "", &mut names);
        }
        tree
    }

    /// The paths of all entries, sorted.
    pub fn paths(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    /// The same tree without modification times, for where a time is not what is compared.
    #[must_use]
    pub fn without_times(mut self) -> Self {
        for entry in self.entries.values_mut() {
            entry.modified = 0;
        }
        self
    }

    /// The same tree without the modification times of directories, which change with whatever is put there.
    #[must_use]
    pub fn without_directory_times(mut self) -> Self {
        for entry in self.entries.values_mut() {
            if entry.kind == "directory" {
                entry.modified = 0;
            }
        }
        self
    }

    /// Lines that say what `other` has otherwise: `-` only here, `+` only there. Empty when they are equal.
    pub fn difference(&self, other: &Self) -> String {
        let mut lines = String::new();
        let paths: std::collections::BTreeSet<_> =
            self.entries.keys().chain(other.entries.keys()).collect();
        for path in paths {
            let (here, there) = (self.entries.get(path), other.entries.get(path));
            if here != there {
                for (sign, entry) in [('-', here), ('+', there)] {
                    if let Some(entry) = entry {
                        lines.push_str(&format!("{sign} {path}: {entry}\n"));
                    }
                }
            }
        }
        lines
    }

    fn add(&mut self, directory: &Path, prefix: &str, names: &mut BTreeMap<(u64, u64), String>) {
        let mut children: Vec<_> = std::fs::read_dir(directory)
            .and_then(Iterator::collect)
            .unwrap_or_else(|error| panic!("list `{}`: {error}", directory.display()));
        children.sort_by_key(std::fs::DirEntry::file_name);
        for child in children {
            let path = child.path();
            let name = format!("{prefix}{}", text(child.file_name().as_bytes()));
            let metadata = std::fs::symlink_metadata(&path)
                .unwrap_or_else(|error| panic!("look at `{}`: {error}", path.display()));
            let mut entry = Entry {
                kind: kind(&metadata),
                mode: if metadata.is_symlink() {
                    0
                } else {
                    metadata.mode() & 0o7777
                },
                owner: (metadata.uid(), metadata.gid()),
                size: 0,
                target: None,
                content: None,
                modified: metadata.mtime(),
                linked: None,
                attributes: attributes(&path, &metadata),
            };
            if metadata.is_symlink() {
                let target = std::fs::read_link(&path).expect("a symbolic link has a target");
                entry.target = Some(text(target.as_os_str().as_bytes()));
            } else if metadata.is_file() {
                let content = std::fs::read(&path)
                    .unwrap_or_else(|error| panic!("read `{}`: {error}", path.display()));
                entry.size = metadata.len();
                entry.content = Some(hex::encode(Sha256::digest(&content)));
                if metadata.nlink() > 1 {
                    let first = names
                        .entry((metadata.dev(), metadata.ino()))
                        .or_insert_with(|| name.clone());
                    entry.linked = (*first != name).then(|| first.clone());
                }
            }
            self.entries.insert(name.clone(), entry);
            if metadata.is_dir() {
                self.add(&path, &format!("{name}/"), names);
            }
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, group) = self.owner;
        write!(
            out,
            "{} {:04o} {user}:{group} {} bytes at {}",
            self.kind, self.mode, self.size, self.modified
        )?;
        if let Some(target) = &self.target {
            write!(out, " -> {target}")?;
        }
        if let Some(linked) = &self.linked {
            write!(out, " is {linked}")?;
        }
        if let Some(content) = &self.content {
            write!(out, " content {}", &content[..12])?;
        }
        for (name, value) in &self.attributes {
            write!(out, " {name}={value}")?;
        }
        Ok(())
    }
}

/// Text as it is, other bytes as `\xNN`: names that differ differ here too.
fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn attributes(path: &Path, metadata: &std::fs::Metadata) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if !metadata.is_file() && !metadata.is_dir() {
        return found;
    }
    // As much as the kernel keeps of either.
    let mut list = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::listxattr(path, &mut list[..]) else {
        return found;
    };
    let names = list[..length].split(|byte| *byte == 0);
    for name in names.filter(|name| !name.is_empty() && *name != b"security.selinux") {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::getxattr(path, name, &mut value[..])
            .unwrap_or_else(|error| panic!("read an attribute of `{}`: {error}", path.display()));
        found.insert(text(name), hex::encode(&value[..length]));
    }
    found
}

fn kind(metadata: &std::fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_file() {
        "file"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "link"
    } else if kind.is_fifo() {
        "fifo"
    } else {
        "device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_names_what_differs() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (root, text) in [(&one, "a"), (&two, "b")] {
            std::fs::create_dir(root.path().join("d")).unwrap();
            std::fs::write(root.path().join("d/f"), text).unwrap();
            std::os::unix::fs::symlink("f", root.path().join("d/l")).unwrap();
        }
        let (one, two) = (
            Tree::of(&one).without_times(),
            Tree::of(&two).without_times(),
        );
        assert_eq!(one.paths(), ["d", "d/f", "d/l"]);
        let difference = one.difference(&two);
        assert_eq!(difference.lines().count(), 2, "{difference}");
        assert!(difference.starts_with("- d/f: file "), "{difference}");
        assert_eq!(one.difference(&one.clone()), "");
    }
}
