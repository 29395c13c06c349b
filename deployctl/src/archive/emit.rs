//! An archive on its way out: headers, padding, the end, compression, and what it all came to.
//! `pack` and `flatten` write through it.

use std::io::{self, Write};

use deploy_spec::media_type::Compression;

use super::{
    ArchiveError, Packed,
    encode::Encoder,
    extended::ExtendedAttributes,
    header::{BLOCK, Timestamp},
    measure::MeasuringWriter,
};

/// How much of a file is read at once. Buffers are always filled, so that the compressor sees
/// the same pieces wherever the files lie.
pub(super) const BUFFER: usize = 128 << 10;
/// The name of every PAX header; it means nothing, and Python's is the one that is known.
const PAX_NAME: &str = "././@PaxHeader";
/// Its mode, which means nothing either.
const PAX_MODE: u32 = 0o644;
/// The highest owner or group that seven octal digits hold.
const LARGEST_OWNER: u32 = 0o7_777_777;
/// The largest number that eleven octal digits hold.
const LARGEST: u64 = 0o77_777_777_777;

/// Takes the entries of an archive.
pub(super) struct Emitter<W: Write> {
    output: MeasuringWriter<Encoder<MeasuringWriter<W>>>,
    entries: u64,
}

impl<W: Write> Emitter<W> {
    /// Writes to `output`, compressed so.
    pub(super) fn new(output: W, compression: Compression) -> Result<Self, ArchiveError> {
        let output = MeasuringWriter::new(output);
        let encoder = Encoder::new(output, compression).map_err(ArchiveError::Write)?;
        Ok(Self {
            output: MeasuringWriter::new(encoder),
            entries: 0,
        })
    }

    /// Begins an entry. As many bytes as it announces have to follow, and [`Emitter::pad`].
    pub(super) fn begin(&mut self, header: &Header<'_>) -> Result<(), ArchiveError> {
        self.entries += 1;
        header.write(&mut self.output).map_err(ArchiveError::Write)
    }

    /// Writes a piece of the content.
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), ArchiveError> {
        self.output.write_all(piece).map_err(ArchiveError::Write)
    }

    /// Fills the last block of a content of so many bytes.
    pub(super) fn pad(&mut self, size: u64) -> Result<(), ArchiveError> {
        pad(&mut self.output, size).map_err(ArchiveError::Write)
    }

    /// Writes the end, and returns what the archive became.
    pub(super) fn finish(mut self) -> Result<Packed, ArchiveError> {
        self.write(&[0; 2 * BLOCK])?;
        let (encoder, diff_id, unpacked_size) = self.output.finish();
        let mut output = encoder.finish().map_err(ArchiveError::Write)?;
        output.flush().map_err(ArchiveError::Write)?;
        let (_, digest, size) = output.finish();
        Ok(Packed {
            diff_id,
            unpacked_size,
            digest,
            size,
            entries: self.entries,
        })
    }
}

fn pad(output: &mut impl Write, size: u64) -> io::Result<()> {
    let padding = size.wrapping_neg() % BLOCK as u64;
    output.write_all(&[0; BLOCK][..usize::try_from(padding).expect("less than a block")])
}

/// A ustar header, with a PAX header before it where it needs one.
pub(super) struct Header<'a> {
    pub(super) name: &'a [u8],
    /// Where a link leads; empty for others.
    pub(super) link: &'a [u8],
    pub(super) kind: tar::EntryType,
    pub(super) mode: u32,
    /// Numeric; there are no names.
    pub(super) owner: (u32, u32),
    /// Bytes that follow.
    pub(super) size: u64,
    /// Not before 1970.
    pub(super) mtime: Timestamp,
    pub(super) extended: Option<&'a ExtendedAttributes>,
}

impl Header<'_> {
    fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let records = self.records();
        if !records.is_empty() {
            let header = Header {
                name: PAX_NAME.as_bytes(),
                link: b"",
                kind: tar::EntryType::XHeader,
                mode: PAX_MODE,
                owner: (0, 0),
                size: records.len() as u64,
                mtime: Timestamp::default(),
                extended: None,
            };
            output.write_all(&header.block())?;
            output.write_all(&records)?;
            pad(output, records.len() as u64)?;
        }
        output.write_all(&self.block())
    }

    /// Returns the PAX records of what the block does not hold. Numbers are in the block in binary
    /// too, so that readers of one or the other agree.
    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut push = |key: &[u8], value: &[u8]| push_record(&mut records, key, value);
        if self.name.len() > 100 {
            push(b"path", self.name);
        }
        if self.link.len() > 100 {
            push(b"linkpath", self.link);
        }
        if self.size > LARGEST {
            push(b"size", self.size.to_string().as_bytes());
        }
        for (key, id) in [(&b"uid"[..], self.owner.0), (b"gid", self.owner.1)] {
            if id > LARGEST_OWNER {
                push(key, id.to_string().as_bytes());
            }
        }
        let Timestamp {
            seconds,
            nanoseconds,
        } = self.mtime;
        if nanoseconds != 0 {
            let time = format!("{seconds}.{nanoseconds:09}");
            push(b"mtime", time.trim_end_matches('0').as_bytes());
        } else if seconds.unsigned_abs() > LARGEST {
            push(b"mtime", seconds.to_string().as_bytes());
        }
        let extended = self.extended.map_or(&[][..], |all| all.attributes());
        for (name, value) in extended {
            push(&[b"SCHILY.xattr.", &**name].concat(), value);
        }
        records
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
        header.set_uid(self.owner.0.into());
        header.set_gid(self.owner.1.into());
        header.set_size(self.size);
        let seconds = self.mtime.seconds.try_into();
        header.set_mtime(seconds.expect("clamped to be positive"));
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
