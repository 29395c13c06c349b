//! Makes the archive of some files, the same bytes for the same tree. For verbs that push
//! directories and files.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use deploy_spec::{Digest, media_type::Compression};
use rustix::fs::OFlags;

use super::{
    ArchiveError,
    emit::{BUFFER, Emitter, Header},
    header::Timestamp,
    walk::{Found, FoundKind, Stamp, walk},
};

const EXECUTABLE: u32 = 0o755;
const PLAIN: u32 = 0o644;
const LINK: u32 = 0o777;
/// Eleven octal digits: the last second that a ustar header holds.
const LATEST_SECOND: i64 = (1 << 33) - 1;

/// How an archive is made.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// How it is compressed, each with one fixed setting.
    pub compression: Compression,
    /// The latest modification time to record, in seconds since 1970: later ones become this
    /// one, earlier ones stay. Without it every time is 0, so that the same content gives the
    /// same digest wherever and whenever it was checked out.
    pub source_date: Option<i64>,
}

impl Default for PackOptions {
    /// gzip, which every client reads, and no times.
    fn default() -> Self {
        Self {
            compression: Compression::Gzip,
            source_date: None,
        }
    }
}

/// An archive that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// SHA-256 of the uncompressed bytes.
    pub diff_id: Digest,
    /// How many uncompressed bytes there are.
    pub unpacked_size: u64,
    /// SHA-256 of the bytes written.
    pub digest: Digest,
    /// How many bytes were written.
    pub size: u64,
    /// How many entries there are, the root among them.
    pub entries: u64,
}

/// Writes the archive of `paths` to `output` and returns what it became.
///
/// Of a directory the contents are packed at the root of the archive; a file is packed under
/// its own name; a symbolic link among `paths` counts as what it leads to. Several paths
/// become one tree: their directories are merged, and any other name that two of them bring
/// is refused.
///
/// The bytes depend on names, contents, the owner's executable bits, links' targets and the
/// options, and on nothing else: entries are sorted bytewise, the owner is 0 without a name,
/// modes are 0755 or 0644, times as [`PackOptions::source_date`] says, and hard links are
/// packed as the files they are. Names that ustar headers do not hold are written as PAX.
///
/// # Errors
/// [`ArchiveError::Special`] for sockets, pipes and devices, [`ArchiveError::Changed`] for a
/// file that changes meanwhile, [`ArchiveError::Duplicate`], [`ArchiveError::Io`] with the
/// path, [`ArchiveError::Write`] for the output.
pub fn pack(
    paths: &[PathBuf],
    output: impl Write,
    options: &PackOptions,
) -> Result<Packed, ArchiveError> {
    let tree = walk(paths)?;
    let mut output = Emitter::new(output, options.compression)?;
    let mut buffer = vec![0; BUFFER];
    for (name, found) in &tree {
        write_entry(&mut output, name, found, options, &mut buffer)?;
    }
    output.finish()
}

fn write_entry(
    output: &mut Emitter<impl Write>,
    name: &[u8],
    found: &Found,
    options: &PackOptions,
    buffer: &mut [u8],
) -> Result<(), ArchiveError> {
    let seconds = match options.source_date {
        None => 0,
        Some(latest) => found.modified.min(latest).clamp(0, LATEST_SECOND),
    };
    let header = Header {
        name,
        link: b"",
        kind: tar::EntryType::Regular,
        mode: PLAIN,
        owner: (0, 0),
        size: 0,
        mtime: Timestamp {
            seconds,
            nanoseconds: 0,
        },
        extended: None,
    };
    match &found.kind {
        FoundKind::Directory => {
            let name = if name.is_empty() {
                b"./".to_vec()
            } else {
                [name, b"/"].concat()
            };
            output.begin(&Header {
                name: &name,
                kind: tar::EntryType::Directory,
                mode: EXECUTABLE,
                ..header
            })
        }
        FoundKind::Symlink(target) => output.begin(&Header {
            link: target,
            kind: tar::EntryType::Symlink,
            mode: LINK,
            ..header
        }),
        FoundKind::File(stamp) => {
            let mode = if stamp.executable { EXECUTABLE } else { PLAIN };
            let file = open(&found.path, stamp)?;
            output.begin(&Header {
                mode,
                size: stamp.size,
                ..header
            })?;
            copy(&file, &found.path, stamp, output, buffer)
        }
    }
}

/// Opens the file that was walked; another one under its name is not it.
fn open(path: &Path, stamp: &Stamp) -> Result<File, ArchiveError> {
    // A pipe that took the file's place would block here for ever.
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = flags
        .bits()
        .try_into()
        .expect("the kernel's flags fit its own type");
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(ArchiveError::io("open", path))?;
    check(&file, path, stamp)?;
    Ok(file)
}

fn check(file: &File, path: &Path, stamp: &Stamp) -> Result<(), ArchiveError> {
    let metadata = file.metadata().map_err(ArchiveError::io("read", path))?;
    if metadata.is_file() && Stamp::of(&metadata) == *stamp {
        Ok(())
    } else {
        Err(ArchiveError::Changed(path.to_owned()))
    }
}

/// Copies exactly the announced number of bytes and what fills the last block.
fn copy(
    mut file: &File,
    path: &Path,
    stamp: &Stamp,
    output: &mut Emitter<impl Write>,
    buffer: &mut [u8],
) -> Result<(), ArchiveError> {
    let mut remaining = stamp.size;
    while remaining > 0 {
        let wanted = usize::try_from(remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        match file.read_exact(&mut buffer[..wanted]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ArchiveError::Changed(path.to_owned()));
            }
            Err(error) => return Err(ArchiveError::io("read", path)(error)),
        }
        output.write(&buffer[..wanted])?;
        remaining -= wanted as u64;
    }
    check(file, path, stamp)?;
    output.pad(stamp.size)
}
