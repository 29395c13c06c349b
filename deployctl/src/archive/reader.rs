//! A tar archive as a sequence of entries, each with its content (POSIX pax with ustar
//! headers, GNU's long names, V7). `inspect`, `plan` and `materialise` read through it.

use std::io::Read;

use deploy_spec::media_type::Compression;

use super::{
    ArchiveError, LimitKind, Limits, Rule,
    decode::Content,
    error::escape,
    extended::{Attribute, Extended},
    header::{BLOCK, Kind, RawHeader, Timestamp, text},
    pax::PaxRecords,
};

/// Where a block of an old GNU sparse map says that another one follows.
const SPARSE_MAP_GOES_ON: usize = 504;

/// An entry's header with everything that stood before it merged in.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The name as the archive has it.
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryKind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: Timestamp,
    /// Extended attributes, whether they are wanted or not.
    pub(super) found: Vec<Attribute>,
    /// Those that are taken over.
    pub(super) extended: Extended,
}

/// What an entry is, with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    File {
        size: u64,
    },
    HardLink {
        target: Vec<u8>,
    },
    Symlink {
        target: Vec<u8>,
    },
    Directory,
    /// Something that is never unpacked, and why.
    Unsupported(Rule),
}

/// How an archive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Whether a block of zeros marks it; some writers leave that out.
    pub(super) marked: bool,
    /// How many bytes behind it are not zero.
    pub(super) trailing: u64,
}

/// Reads the entries of one archive in order, in memory bounded by the limits.
pub(super) struct TarReader<R: Read> {
    content: Content<R>,
    limits: Limits,
    /// Bytes of the present entry's content that have not been read.
    remaining: u64,
    /// Zeros that fill its last block.
    padding: u64,
    /// For messages about the present entry.
    name: Vec<u8>,
    count: u64,
    marked: bool,
}

/// What extension headers have said about the entry to come.
#[derive(Default)]
struct Extensions {
    pax: Option<PaxRecords>,
    gnu_name: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    /// Reads from `content`, which must stand at its start.
    pub(super) fn new(content: Content<R>, limits: Limits) -> Self {
        Self {
            content,
            limits,
            remaining: 0,
            padding: 0,
            name: Vec::new(),
            count: 0,
            marked: false,
        }
    }

    /// Returns how the archive is compressed.
    pub(super) fn compression(&self) -> Compression {
        self.content.compression()
    }

    /// Returns what is read from.
    pub(super) fn into_content(self) -> Content<R> {
        self.content
    }

    /// Returns how many entries have been returned.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Passes over what is left of the present entry and returns the next; nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        if self.marked {
            return Ok(None);
        }
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else {
                if extensions.pax.is_some()
                    || extensions.gnu_name.is_some()
                    || extensions.gnu_link.is_some()
                {
                    return Err(ArchiveError::Truncated {
                        position: self.content.position(),
                    });
                }
                return Ok(None);
            };
            let refused = |rule| ArchiveError::refused(&header.name, rule);
            let kind = match header.kind() {
                Ok(kind) => kind,
                Err(rule) => return self.unsupported(&header, extensions, rule).map(Some),
            };
            match kind {
                Kind::PaxLocal => {
                    if extensions.pax.is_some() {
                        return Err(refused(Rule::MixedExtensions));
                    }
                    let bytes = self.extension(&header)?;
                    extensions.pax = Some(PaxRecords::parse(&bytes).map_err(refused)?);
                }
                Kind::PaxGlobal => {
                    let bytes = self.extension(&header)?;
                    PaxRecords::check_global(&bytes).map_err(refused)?;
                }
                Kind::GnuLongName => {
                    let name = self.long_name(&header)?;
                    if extensions.gnu_name.replace(name).is_some() {
                        return Err(refused(Rule::MixedExtensions));
                    }
                }
                Kind::GnuLongLink => {
                    let name = self.long_name(&header)?;
                    if extensions.gnu_link.replace(name).is_some() {
                        return Err(refused(Rule::MixedExtensions));
                    }
                }
                kind => return self.entry(header, kind, extensions).map(Some),
            }
        }
    }

    /// Reads the present entry's content into `buffer` and returns how much; 0 at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let wanted = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.content.fill(&mut buffer[..wanted], &self.name)?;
        if count < wanted {
            return Err(ArchiveError::Truncated {
                position: self.content.position(),
            });
        }
        self.remaining -= count as u64;
        Ok(count)
    }

    /// Reads whatever follows the last entry and returns how the archive ended, with the
    /// content for its measures.
    pub(super) fn finish(mut self) -> Result<(Content<R>, End), ArchiveError> {
        while self.next()?.is_some() {}
        let trailing = self.content.drain()?;
        Ok((
            self.content,
            End {
                marked: self.marked,
                trailing,
            },
        ))
    }

    /// Returns the entry of `header` with what the extension headers before it say.
    fn entry(
        &mut self,
        header: RawHeader,
        kind: Kind,
        extensions: Extensions,
    ) -> Result<Entry, ArchiveError> {
        // Whatever the PAX header says: of its size some readers take it for the GNU header's.
        let is_gnu = extensions.gnu_name.is_some() || extensions.gnu_link.is_some();
        let mixed = is_gnu && extensions.pax.is_some();
        let pax = extensions.pax.unwrap_or_default();
        let name = pax.path.or(extensions.gnu_name).unwrap_or(header.name);
        let refused = |rule| ArchiveError::refused(&name, rule);
        if mixed {
            return Err(refused(Rule::MixedExtensions));
        }
        let size = pax.size.unwrap_or(header.size);
        let target = pax.link.or(extensions.gnu_link).unwrap_or(header.link);
        let kind = match kind {
            // Of any kind: the records may give it another name.
            _ if pax.is_sparse => EntryKind::Unsupported(Rule::Sparse),
            // Before there was a type for them, a slash at the end made a directory.
            Kind::File if name.ends_with(b"/") => EntryKind::Directory,
            Kind::File => EntryKind::File { size },
            Kind::HardLink => EntryKind::HardLink { target },
            Kind::Symlink => EntryKind::Symlink { target },
            _ => EntryKind::Directory,
        };
        let has_content = matches!(kind, EntryKind::File { .. } | EntryKind::Unsupported(_));
        if !has_content && size != 0 {
            return Err(refused(Rule::UnexpectedContent));
        }
        if size > self.limits.bytes {
            return Err(ArchiveError::Limit {
                entry: escape(&name),
                limit: LimitKind::Bytes,
                maximum: self.limits.bytes,
            });
        }
        self.remaining = size;
        self.padding = padding(size);
        self.count += 1;
        self.name.clone_from(&name);
        Ok(Entry {
            kind,
            mode: header.mode,
            uid: pax.uid.unwrap_or(header.uid),
            gid: pax.gid.unwrap_or(header.gid),
            mtime: pax.mtime.unwrap_or(header.mtime),
            found: pax.extended,
            extended: None,
            name,
        })
    }

    /// Returns the entry of `header`, whose type is none that is unpacked, so that readers who
    /// only want to get past it can.
    fn unsupported(
        &mut self,
        header: &RawHeader,
        extensions: Extensions,
        rule: Rule,
    ) -> Result<Entry, ArchiveError> {
        let is_special = matches!(rule, Rule::Special(_));
        let mut more = header.has_sparse_map;
        while more {
            let mut block = [0; BLOCK];
            if self.content.fill(&mut block, &header.name)? < BLOCK {
                return Err(ArchiveError::Truncated {
                    position: self.content.position(),
                });
            }
            more = block[SPARSE_MAP_GOES_ON] != 0;
        }
        let mut entry = self.entry(header.clone(), Kind::File, extensions)?;
        if is_special && self.remaining > 0 {
            return Err(ArchiveError::refused(&entry.name, Rule::UnexpectedContent));
        }
        entry.kind = EntryKind::Unsupported(rule);
        Ok(entry)
    }

    /// Returns the next header block, or nothing at the end of the archive.
    fn header(&mut self) -> Result<Option<RawHeader>, ArchiveError> {
        let position = self.content.position();
        let mut block = [0; BLOCK];
        let count = self.content.fill(&mut block, &self.name)?;
        match count {
            0 if position == 0 => return Err(ArchiveError::Empty),
            0 => return Ok(None),
            BLOCK => {}
            _ if position == 0 => {
                return Err(ArchiveError::NotATar(format!("it is only {count} bytes")));
            }
            _ => {
                return Err(ArchiveError::Truncated {
                    position: position + count as u64,
                });
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            self.marked = true;
            return Ok(None);
        }
        if !RawHeader::checksum_holds(&block) {
            return Err(if position == 0 {
                ArchiveError::NotATar("it does not start with a header".to_owned())
            } else {
                ArchiveError::Damaged {
                    position,
                    reason: format!(
                        "no header where one should be, behind `{}`",
                        escape(&self.name)
                    ),
                }
            });
        }
        let header = RawHeader::parse(&block)
            .map_err(|rule| ArchiveError::refused(text(&block[..100]), rule))?;
        Ok(Some(header))
    }

    /// Returns the content of an extension header.
    fn extension(&mut self, header: &RawHeader) -> Result<Vec<u8>, ArchiveError> {
        let maximum = self.limits.extension_bytes;
        if header.size > maximum {
            return Err(ArchiveError::Limit {
                entry: escape(&header.name),
                limit: LimitKind::ExtensionBytes,
                maximum,
            });
        }
        let length = usize::try_from(header.size).expect("within the limit");
        let mut bytes = vec![0; length];
        self.remaining = header.size;
        self.padding = padding(header.size);
        self.read(&mut bytes)?;
        self.skip_rest()?;
        Ok(bytes)
    }

    /// Returns the name in a GNU long name header: NUL at its end, none in it.
    fn long_name(&mut self, header: &RawHeader) -> Result<Vec<u8>, ArchiveError> {
        let mut name = self.extension(header)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        if name.contains(&0) {
            return Err(ArchiveError::refused(&name, Rule::Nul));
        }
        Ok(name)
    }

    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        let passed = self.content.pass_over(self.remaining, &self.name)?;
        self.remaining -= passed;
        if self.remaining > 0 {
            return Err(ArchiveError::Truncated {
                position: self.content.position(),
            });
        }
        // Some writers leave out the padding after the very last file, as they leave out the
        // end; nothing of the content is missing then.
        let padding = std::mem::take(&mut self.padding);
        self.content.pass_over(padding, &self.name)?;
        Ok(())
    }
}

/// Returns how many zeros fill the last block of `size` bytes.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
