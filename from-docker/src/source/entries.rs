//! The files of a tar archive, read in place by their names. For archives of images, be they on
//! the disk or spooled.
//!
//! Only headers are read, and what is kept of them is bounded. Links are resolved among the
//! entries and nowhere else: nothing of the machine's own files is ever opened.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use deployctl::client::Part;

use crate::{ImportError, error::failed};

const BLOCK: u64 = 512;
/// An archive of images has a few entries a layer.
const ENTRIES_MAX: usize = 100_000;
/// The largest extension header that is read; names in it are far shorter.
const EXTENSION_MAX: u64 = 64 * 1024;
/// How many links are followed for one file.
const LINKS_MAX: usize = 32;

/// The entries of an archive. Its operations block.
#[derive(Clone, Debug)]
pub(crate) struct Entries {
    file: Arc<File>,
    path: PathBuf,
    entries: Arc<HashMap<String, Entry>>,
    /// Whether the mark at the end of archives was there.
    is_ended: bool,
}

#[derive(Debug)]
enum Entry {
    File {
        offset: u64,
        size: u64,
    },
    /// To another entry, by its name from the root; `None` where that is outside.
    Link(Option<String>),
}

impl Entries {
    /// Returns the entries of an archive; `path` is what messages call it.
    ///
    /// # Errors
    /// [`ImportError::NotAnArchive`] where it is none or cut short, [`ImportError::File`].
    pub(crate) fn scan(file: Arc<File>, path: &Path) -> Result<Self, ImportError> {
        let length = file.metadata().map_err(failed("read", path))?.len();
        let mut scan = Scan {
            file: &file,
            path,
            length,
            position: 0,
            is_ended: false,
        };
        let (entries, is_ended) = (scan.entries()?, scan.is_ended);
        Ok(Self {
            file,
            path: path.to_owned(),
            entries: Arc::new(entries),
            is_ended,
        })
    }

    /// Returns what the archive is called.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the error for a file that should be there and is not.
    pub(crate) fn missing(&self, name: &str) -> ImportError {
        let name = name.escape_debug();
        ImportError::NotAnArchive {
            path: self.path.clone(),
            reason: match self.is_ended {
                true => format!("it has no file `{name}`"),
                false => format!("it is cut short: it has no file `{name}`, and no end"),
            },
        }
    }

    /// Returns whether there is an entry of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        normal(name).is_some_and(|name| self.entries.contains_key(&name))
    }

    /// Returns the file of a name, with the links in between followed; nothing where there is
    /// none.
    ///
    /// # Errors
    /// [`ImportError::NotAnArchive`] for a name or a link that leads out of the archive, or in a
    /// circle.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Part>, ImportError> {
        let refused = |reason: String| ImportError::NotAnArchive {
            path: self.path.clone(),
            reason,
        };
        let outside = || refused(format!("`{}` leads out of it", name.escape_debug()));
        let mut at = normal(name).ok_or_else(outside)?;
        for _ in 0..LINKS_MAX {
            match self.entries.get(&at) {
                None => return Ok(None),
                Some(Entry::Link(target)) => at = target.clone().ok_or_else(outside)?,
                Some(Entry::File { offset, size }) => {
                    return Ok(Some(Part {
                        file: self.file.clone(),
                        path: self.path.clone(),
                        offset: *offset,
                        size: *size,
                    }));
                }
            }
        }
        Err(refused(format!(
            "the links of `{}` have no end",
            name.escape_debug()
        )))
    }

    /// Returns the content of a small file; nothing where there is none.
    ///
    /// # Errors
    /// [`ImportError::TooLarge`], and as [`Entries::find`].
    pub(crate) fn document(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ImportError> {
        match self.find(name)? {
            Some(part) => read(&part, name, limit).map(Some),
            None => Ok(None),
        }
    }
}

/// Returns all of a small part, which messages call `what`.
pub(crate) fn read(part: &Part, what: &str, limit: u64) -> Result<Vec<u8>, ImportError> {
    if part.size > limit {
        return Err(ImportError::TooLarge {
            what: what.to_owned(),
            size: part.size,
            limit,
        });
    }
    let mut bytes = vec![0; usize::try_from(part.size).expect("below the limit")];
    part.read_at(0, &mut bytes)
        .map_err(failed("read", &part.path))?;
    Ok(bytes)
}

struct Scan<'a> {
    file: &'a File,
    path: &'a Path,
    length: u64,
    position: u64,
    is_ended: bool,
}

/// What extension headers say of the entry behind them.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Scan<'_> {
    fn entries(&mut self) -> Result<HashMap<String, Entry>, ImportError> {
        let mut entries = HashMap::new();
        let mut extension = Extension::default();
        while let Some(header) = self.header()? {
            let size = header.entry_size();
            let mut size = size.map_err(|_| self.refused("an entry has no size"))?;
            let kind = header.entry_type();
            if let tar::EntryType::Regular | tar::EntryType::Continuous = kind {
                size = extension.size.unwrap_or(size);
            }
            let offset = self.position;
            // Links announce the size of what they lead to, and have no content.
            let content = match kind {
                tar::EntryType::Link | tar::EntryType::Symlink => 0,
                _ => size,
            };
            let end = content
                .checked_next_multiple_of(BLOCK)
                .and_then(|content| offset.checked_add(content));
            // The last padding may be missing.
            match end {
                Some(end) if offset + content <= self.length => self.position = end,
                _ => return Err(self.refused("it is cut short")),
            }
            match kind {
                tar::EntryType::GNULongName => {
                    extension.name = Some(self.text(offset, size)?);
                    continue;
                }
                tar::EntryType::GNULongLink => {
                    extension.link = Some(self.text(offset, size)?);
                    continue;
                }
                tar::EntryType::XHeader => {
                    self.extend(&mut extension, offset, size)?;
                    continue;
                }
                _ => {}
            }
            let extension = std::mem::take(&mut extension);
            let name = extension
                .name
                .unwrap_or_else(|| header.path_bytes().to_vec());
            let link =
                (extension.link).or_else(|| header.link_name_bytes().map(|link| link.to_vec()));
            // What is no text is asked for by nobody.
            let Some(name) = String::from_utf8(name).ok().and_then(|name| normal(&name)) else {
                continue;
            };
            let link = link.and_then(|link| String::from_utf8(link).ok());
            let entry = match kind {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    Entry::File { offset, size }
                }
                tar::EntryType::Symlink => Entry::Link(link.and_then(|link| beside(&name, &link))),
                tar::EntryType::Link => Entry::Link(link.and_then(|link| normal(&link))),
                _ => continue,
            };
            if entries.len() == ENTRIES_MAX {
                return Err(self.refused("it has more entries than any archive of images"));
            }
            entries.insert(name, entry);
        }
        Ok(entries)
    }

    /// Returns the next header; nothing at the end.
    fn header(&mut self) -> Result<Option<tar::Header>, ImportError> {
        if self.position == self.length {
            return Ok(None);
        }
        let block = self.bytes(self.position, BLOCK)?;
        if block.iter().all(|byte| *byte == 0) {
            self.is_ended = true;
            return Ok(None);
        }
        let header = tar::Header::from_byte_slice(&block).clone();
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        // The field itself counts as spaces.
        let found = sum(&block[..148]) + sum(&block[156..]) + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(found) {
            return Err(match self.position {
                0 => self.refused("it is no tar archive"),
                _ => self.refused("it is damaged: a header has a wrong checksum"),
            });
        }
        self.position += BLOCK;
        Ok(Some(header))
    }

    fn extend(&self, extension: &mut Extension, offset: u64, size: u64) -> Result<(), ImportError> {
        let bytes = self.text(offset, size)?;
        for record in tar::PaxExtensions::new(&bytes) {
            let record = record.map_err(|_| self.refused("an extension header is damaged"))?;
            let value = record.value_bytes().to_vec();
            match record.key_bytes() {
                b"path" => extension.name = Some(value),
                b"linkpath" => extension.link = Some(value),
                b"size" => {
                    let text = String::from_utf8(value).ok();
                    let size = text.and_then(|text| text.parse().ok());
                    extension.size =
                        Some(size.ok_or_else(|| self.refused("an entry has no size"))?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the content of an extension header, without the zeros that end it.
    fn text(&self, offset: u64, size: u64) -> Result<Vec<u8>, ImportError> {
        if size > EXTENSION_MAX {
            return Err(self.refused("an extension header is larger than any should be"));
        }
        let mut bytes = self.bytes(offset, size)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn bytes(&self, offset: u64, size: u64) -> Result<Vec<u8>, ImportError> {
        if self.length - offset < size {
            return Err(self.refused(match offset {
                0 => "it is no tar archive",
                _ => "it is cut short",
            }));
        }
        let mut bytes = vec![0; usize::try_from(size).expect("a block, or below a limit")];
        (self.file.read_exact_at(&mut bytes, offset)).map_err(failed("read", self.path))?;
        Ok(bytes)
    }

    fn refused(&self, reason: &str) -> ImportError {
        ImportError::NotAnArchive {
            path: self.path.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// Returns a name from the root, without `.` and `..`; nothing where it leads outside.
fn normal(name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Returns what a symbolic link at `name` leads to.
fn beside(name: &str, target: &str) -> Option<String> {
    match (target.starts_with('/'), name.rsplit_once('/')) {
        // An absolute link leads to the machine's own files.
        (true, _) => None,
        (false, Some((directory, _))) => normal(&format!("{directory}/{target}")),
        (false, None) => normal(target),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn scan(bytes: &[u8]) -> Result<Entries, ImportError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Entries::scan(Arc::new(file), Path::new("a.tar"))
    }

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header
    }

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &str) {
        let mut header = header(tar::EntryType::Regular, content.len() as u64);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }

    fn link(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, target: &str) {
        let mut header = header(kind, 0);
        builder.append_link(&mut header, name, target).unwrap();
    }

    fn content(entries: &Entries, name: &str) -> Option<String> {
        let found = entries.document(name, 1000).unwrap();
        found.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn files_are_found_by_name_and_through_links() {
        let long = format!("{}/file", "directory/".repeat(20));
        let entries = scan(&archive(|builder| {
            file(builder, "./a/layer.tar", "one");
            file(builder, "twice", "old");
            file(builder, "twice", "new");
            file(builder, &long, "long");
            link(
                builder,
                tar::EntryType::Symlink,
                "b/layer.tar",
                "../a/layer.tar",
            );
            link(builder, tar::EntryType::Symlink, "c", "b/layer.tar");
            link(builder, tar::EntryType::Link, "d/x", "a/layer.tar");
        }));
        let entries = entries.unwrap();
        for name in ["a/layer.tar", "./b/layer.tar", "c", "/d/x", "e/../c"] {
            assert_eq!(content(&entries, name).as_deref(), Some("one"), "{name}");
        }
        assert_eq!(content(&entries, "twice").as_deref(), Some("new"));
        assert_eq!(content(&entries, &long).as_deref(), Some("long"));
        assert_eq!(content(&entries, "missing"), None);
        assert!(entries.has("c") && !entries.has("missing"));
        assert!(matches!(
            entries.document("c", 2),
            Err(ImportError::TooLarge { .. })
        ));
    }

    #[test]
    fn nothing_leads_out_of_the_archive_or_in_a_circle() {
        let entries = scan(&archive(|builder| {
            link(builder, tar::EntryType::Symlink, "etc", "../../etc/passwd");
            link(builder, tar::EntryType::Symlink, "absolute", "/etc/passwd");
            link(builder, tar::EntryType::Symlink, "a", "b");
            link(builder, tar::EntryType::Symlink, "b", "a");
        }));
        let entries = entries.unwrap();
        let refused = |name: &str| entries.find(name).unwrap_err().to_string();
        for name in ["etc", "absolute", "../x", "a/../../x"] {
            assert!(refused(name).contains("leads out of it"), "{name}");
        }
        assert!(refused("a").contains("have no end"));
    }

    #[test]
    fn sizes_of_extension_headers_count() {
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append_pax_extensions([("size", &b"5"[..]), ("path", b"real")])
            .unwrap();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        let mut header = header(tar::EntryType::Regular, 0);
        header.set_path("other").unwrap();
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"12345");
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend_from_slice(&archive(|builder| file(builder, "next", "x")));
        let entries = scan(&bytes).unwrap();
        assert_eq!(content(&entries, "real").as_deref(), Some("12345"));
        assert_eq!(content(&entries, "next").as_deref(), Some("x"));
    }

    #[test]
    fn what_is_no_archive_or_cut_short_is_refused() {
        let whole = archive(|builder| file(builder, "a", &"x".repeat(2000)));
        let mut damaged = whole.clone();
        damaged[0] ^= 1;
        let mut huge = header(tar::EntryType::GNULongName, 1 << 40);
        huge.set_path("a").unwrap();
        huge.set_cksum();
        let table = [
            (&whole[..512 + 1999], "cut short"),
            (&whole[..300], "no tar archive"),
            (&damaged[..], "no tar archive"),
            (&[b'x'; 2000][..], "no tar archive"),
            (&huge.as_bytes()[..], "cut short"),
        ];
        for (bytes, expected) in table {
            let error = scan(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let mut large = header(tar::EntryType::GNULongName, EXTENSION_MAX + 1);
        large.set_path("a").unwrap();
        large.set_cksum();
        let mut bytes = large.as_bytes().to_vec();
        bytes.resize(bytes.len() + 2 * 65536, 0);
        let error = scan(&bytes).unwrap_err().to_string();
        assert!(error.contains("larger than any should be"), "{error}");
    }
}
