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
    encode::Encoder,
    measure::MeasuringWriter,
    walk::{Found, FoundKind, Stamp, walk},
};

const BLOCK: usize = 512;
/// How much of a file is read at once. Buffers are always filled, so that the compressor sees
/// the same pieces wherever the files lie.
const BUFFER: usize = 128 << 10;
const EXECUTABLE: u32 = 0o755;
const PLAIN: u32 = 0o644;
const LINK: u32 = 0o777;
/// Eleven octal digits: the last second that a ustar header holds.
const LATEST_SECOND: i64 = (1 << 33) - 1;
/// The name of every PAX header; it means nothing, and Python's is the one that is known.
const PAX_NAME: &str = "././@PaxHeader";

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
    let output = MeasuringWriter::new(output);
    let encoder = Encoder::new(output, options.compression).map_err(ArchiveError::Write)?;
    let mut output = MeasuringWriter::new(encoder);
    let mut buffer = vec![0; BUFFER];
    for (name, found) in &tree {
        write_entry(&mut output, name, found, options, &mut buffer)?;
    }
    output
        .write_all(&[0; 2 * BLOCK])
        .map_err(ArchiveError::Write)?;
    let (encoder, diff_id, unpacked_size) = output.finish();
    let mut output = encoder.finish().map_err(ArchiveError::Write)?;
    output.flush().map_err(ArchiveError::Write)?;
    let (_, digest, size) = output.finish();
    Ok(Packed {
        diff_id,
        unpacked_size,
        digest,
        size,
        entries: tree.len() as u64,
    })
}

fn write_entry(
    output: &mut impl Write,
    name: &[u8],
    found: &Found,
    options: &PackOptions,
    buffer: &mut [u8],
) -> Result<(), ArchiveError> {
    let mtime = match options.source_date {
        None => 0,
        Some(latest) => found.modified.min(latest).clamp(0, LATEST_SECOND),
    };
    match &found.kind {
        FoundKind::Directory => {
            let name = if name.is_empty() {
                b"./".to_vec()
            } else {
                [name, b"/"].concat()
            };
            let header = Header {
                name: &name,
                link: b"",
                kind: tar::EntryType::Directory,
                mode: EXECUTABLE,
                size: 0,
                mtime,
            };
            header.write(output).map_err(ArchiveError::Write)
        }
        FoundKind::Symlink(target) => {
            let header = Header {
                name,
                link: target,
                kind: tar::EntryType::Symlink,
                mode: LINK,
                size: 0,
                mtime,
            };
            header.write(output).map_err(ArchiveError::Write)
        }
        FoundKind::File(stamp) => {
            let mode = if stamp.executable { EXECUTABLE } else { PLAIN };
            let header = Header {
                name,
                link: b"",
                kind: tar::EntryType::Regular,
                mode,
                size: stamp.size,
                mtime,
            };
            let file = open(&found.path, stamp)?;
            header.write(output).map_err(ArchiveError::Write)?;
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
    output: &mut impl Write,
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
        output
            .write_all(&buffer[..wanted])
            .map_err(ArchiveError::Write)?;
        remaining -= wanted as u64;
    }
    check(file, path, stamp)?;
    pad(output, stamp.size).map_err(ArchiveError::Write)
}

fn pad(output: &mut impl Write, size: u64) -> io::Result<()> {
    let padding = size.wrapping_neg() % BLOCK as u64;
    output.write_all(&[0; BLOCK][..usize::try_from(padding).expect("less than a block")])
}

/// A ustar header, with a PAX header before it where it needs one.
struct Header<'a> {
    name: &'a [u8],
    link: &'a [u8],
    kind: tar::EntryType,
    mode: u32,
    size: u64,
    mtime: i64,
}

impl Header<'_> {
    fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let mut records = Vec::new();
        if self.name.len() > 100 {
            push_record(&mut records, b"path", self.name);
        }
        if self.link.len() > 100 {
            push_record(&mut records, b"linkpath", self.link);
        }
        if self.size > 0o77_777_777_777 {
            // The header has it in binary too, so that readers of one or the other agree.
            push_record(&mut records, b"size", self.size.to_string().as_bytes());
        }
        if !records.is_empty() {
            let header = Header {
                name: PAX_NAME.as_bytes(),
                link: b"",
                kind: tar::EntryType::XHeader,
                mode: PLAIN,
                size: records.len() as u64,
                mtime: 0,
            };
            output.write_all(&header.block())?;
            output.write_all(&records)?;
            pad(output, records.len() as u64)?;
        }
        output.write_all(&self.block())
    }

    /// Returns the block, with as much of the names as it holds.
    fn block(&self) -> [u8; BLOCK] {
        let mut header = tar::Header::new_ustar();
        {
            let bytes = header.as_mut_bytes();
            let name = &self.name[..self.name.len().min(100)];
            bytes[..name.len()].copy_from_slice(name);
            let link = &self.link[..self.link.len().min(100)];
            bytes[157..157 + link.len()].copy_from_slice(link);
        }
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(self.size);
        header.set_mtime(self.mtime.try_into().expect("clamped to be positive"));
        header.set_cksum();
        *header.as_bytes()
    }
}

/// Appends `<length> <key>=<value>\n`, whose length counts its own digits.
pub(super) fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}
