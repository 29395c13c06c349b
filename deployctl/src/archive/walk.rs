//! What some paths contribute to an archive: sorted names with where their bytes are. Only
//! `pack` calls it.

use std::{
    collections::BTreeMap,
    fs::{self, FileType, Metadata},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use super::{
    ArchiveError, Limits, Rule,
    error::escape,
    path::{PathError, SafePath},
    reader::EntryKind,
    whiteout::Whiteout,
};

/// A name's content, as it was when the tree was walked.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) kind: FoundKind,
    pub(super) modified: i64,
}

#[derive(Debug)]
pub(super) enum FoundKind {
    Directory,
    File(Stamp),
    Symlink(Vec<u8>),
}

/// What is the same as long as a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) executable: bool,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Returns the stamp of a file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            // The owner's bit alone: the others come and go with the umask.
            executable: metadata.mode() & 0o100 != 0,
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Returns everything to pack, sorted bytewise by its name in the archive; the root has the
/// empty name and always comes first.
pub(super) fn walk(paths: &[PathBuf]) -> Result<BTreeMap<Vec<u8>, Found>, ArchiveError> {
    let root = Found {
        path: PathBuf::new(),
        kind: FoundKind::Directory,
        modified: 0,
    };
    let mut found = BTreeMap::from([(Vec::new(), root)]);
    for path in paths {
        // A path on the command line is the file it leads to.
        let metadata = fs::metadata(path).map_err(ArchiveError::io("read", path))?;
        if metadata.is_dir() {
            let root = found.get_mut(&b""[..]).expect("it was put there first");
            root.modified = root.modified.max(metadata.mtime());
            walk_directory(path, &[], &mut found)?;
        } else {
            let canonical;
            let name = match path.file_name() {
                Some(name) => name,
                None => {
                    canonical = path
                        .canonicalize()
                        .map_err(ArchiveError::io("read", path))?;
                    canonical.file_name().unwrap_or_default()
                }
            };
            add(path, &metadata, name.as_bytes().to_vec(), &mut found)?;
        }
    }
    Ok(found)
}

fn walk_directory(
    directory: &Path,
    prefix: &[u8],
    found: &mut BTreeMap<Vec<u8>, Found>,
) -> Result<(), ArchiveError> {
    let mut open = vec![(directory.to_owned(), prefix.to_vec())];
    while let Some((directory, prefix)) = open.pop() {
        for entry in fs::read_dir(&directory).map_err(ArchiveError::io("read", &directory))? {
            let entry = entry.map_err(ArchiveError::io("read", &directory))?;
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).map_err(ArchiveError::io("read", &path))?;
            let mut name = prefix.clone();
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(entry.file_name().as_bytes());
            if metadata.is_dir() {
                open.push((path.clone(), name.clone()));
            }
            add(&path, &metadata, name, found)?;
        }
    }
    Ok(())
}

/// Adds one file. Directories of one name become one; anything else of one name is refused.
fn add(
    path: &Path,
    metadata: &Metadata,
    name: Vec<u8>,
    found: &mut BTreeMap<Vec<u8>, Found>,
) -> Result<(), ArchiveError> {
    let kind = kind(path, metadata)?;
    check(path, &name, &kind)?;
    let modified = metadata.mtime();
    match found.get_mut(&name) {
        None => {
            found.insert(
                name,
                Found {
                    path: path.to_owned(),
                    kind,
                    modified,
                },
            );
            Ok(())
        }
        Some(first)
            if matches!(
                (&first.kind, &kind),
                (FoundKind::Directory, FoundKind::Directory)
            ) =>
        {
            // Whichever is named first on the command line, the result is the same.
            first.modified = first.modified.max(modified);
            Ok(())
        }
        Some(first) => Err(ArchiveError::Duplicate {
            name: escape(&name),
            first: first.path.clone(),
            second: path.to_owned(),
        }),
    }
}

fn kind(path: &Path, metadata: &Metadata) -> Result<FoundKind, ArchiveError> {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        Ok(FoundKind::Directory)
    } else if file_type.is_file() {
        Ok(FoundKind::File(Stamp::of(metadata)))
    } else if file_type.is_symlink() {
        let target = fs::read_link(path).map_err(ArchiveError::io("read", path))?;
        Ok(FoundKind::Symlink(target.as_os_str().as_bytes().to_vec()))
    } else {
        Err(ArchiveError::Special {
            path: path.to_owned(),
            kind: special(file_type),
        })
    }
}

fn special(file_type: FileType) -> &'static str {
    if file_type.is_socket() {
        "socket"
    } else if file_type.is_fifo() {
        "named pipe"
    } else if file_type.is_block_device() {
        "block device"
    } else {
        "character device"
    }
}

/// Refuses what could not be unpacked again. Whiteouts are taken: they are how a component
/// removes what a lower layer brings.
fn check(path: &Path, name: &[u8], kind: &FoundKind) -> Result<(), ArchiveError> {
    let limits = Limits::default();
    let refused = |rule| ArchiveError::Unpackable {
        path: path.to_owned(),
        rule,
    };
    let safe = SafePath::parse(name, &limits).map_err(|error| match error {
        PathError::Rule(rule) => refused(rule),
        error @ PathError::Limit(..) => error.of(name),
    })?;
    let kind = match kind {
        FoundKind::Directory => EntryKind::Directory,
        FoundKind::File(_) => EntryKind::File { size: 0 },
        FoundKind::Symlink(_) => EntryKind::Symlink { target: Vec::new() },
    };
    match Whiteout::of(&safe, &kind) {
        Ok(Whiteout::Ignored) => Err(refused(Rule::BadWhiteout)),
        Ok(_) => Ok(()),
        Err(rule) => Err(refused(rule)),
    }
}
