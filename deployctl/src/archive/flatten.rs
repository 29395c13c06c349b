//! Several layers into one: the archive of the tree that they make together. For importers.
//!
//! The layers are read twice: once to plan, by the very rules that unpacking has, and once to copy
//! the content of the files that are left. Nothing is put on a disk, so that owners, set-id bits and
//! attributes need no rights, and memory is that of a plan.

use std::{
    collections::{BTreeSet, HashMap},
    io::{Read, Write},
    sync::{Arc, atomic::AtomicBool},
};

use deploy_spec::media_type::Compression;

use super::{
    ArchiveError, AttributePattern, LayerSource, Layers, Limits, Packed,
    contents::{Contents, NewFile},
    emit::{BUFFER, Emitter, Header},
    reader::TarReader,
    survivors::{Place, PlannedFile, Survivors},
    tree::Attributes,
};

/// Of a symbolic link, which has no mode.
const LINK: u32 = 0o777;
/// The longest name that a reader has to take (PATH_MAX): the slash behind a directory's is left
/// out rather than to pass it.
const LONGEST_NAME: usize = 4096;

/// How layers become one.
#[derive(Clone, Debug)]
pub struct FlattenOptions {
    /// The most that the layers may ask for.
    pub limits: Limits,
    /// How the archive is compressed, each with one fixed setting.
    pub compression: Compression,
    /// Set to true, it ends the work at the next entry.
    pub stop: Arc<AtomicBool>,
}

impl Default for FlattenOptions {
    /// gzip, which every client reads.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            compression: Compression::Gzip,
            stop: Arc::default(),
        }
    }
}

/// An archive that was made of layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flattened {
    /// The archive.
    pub packed: Packed,
    /// Devices and named pipes that the layers have and the archive has not.
    pub left_out: u64,
}

/// Writes one archive of what `layers`, lowest first, make together to `output`: unpacked, it gives
/// the tree that they give. Names, content, owners, modes with set-id and sticky bits, times to the
/// nanosecond, links of both kinds, and the extended attributes that [`AttributePattern`] can name
/// are kept; there are no whiteouts in it. What could not be unpacked is not flattened.
///
/// The bytes depend on the layers' uncompressed bytes, their order and the options, and on nothing
/// else. The root comes first, then directories, each behind the one that it is in, files as the
/// layers bring them, further names of files, symbolic links.
///
/// `output` has all of the archive only when this returns: after an error it has a part of it that
/// is to be thrown away.
///
/// # Errors
/// Those of [`Layers::open`] and [`Layers::plan`], where all extended attributes count as taken over;
/// [`ArchiveError::Layer`] too for a file that changed between the two readings;
/// [`ArchiveError::Write`] for the output.
pub fn flatten(
    layers: &[LayerSource],
    output: impl Write,
    options: &FlattenOptions,
) -> Result<Flattened, ArchiveError> {
    let mut layers = Layers::open(layers, Arc::clone(&options.stop))?;
    let allowed = AttributePattern::all();
    let plan = layers.read(&options.limits, &allowed, || super::contents::PassedOver)?;
    let survivors = &plan.survivors;
    let mut output = Emitter::new(output, options.compression)?;
    write_directories(survivors, &mut output)?;
    let mut copying = Copying::new(survivors, output);
    let wanted: BTreeSet<u16> = survivors
        .files
        .iter()
        .map(|file| file.content.layer)
        .collect();
    for layer in wanted {
        layers.read_again(layer, &options.limits, &allowed, &mut copying)?;
    }
    let Copying {
        mut output, linked, ..
    } = copying;
    for link in &survivors.links {
        let file = &survivors.files[link.file as usize];
        output.begin(&Header {
            link: &survivors.path(&file.place),
            kind: tar::EntryType::Link,
            ..header(&survivors.path(&link.place), &linked[&link.file])
        })?;
    }
    for link in &survivors.symlinks {
        output.begin(&Header {
            link: &link.target,
            kind: tar::EntryType::Symlink,
            mode: LINK,
            ..header(&survivors.path(&link.place), &link.attributes)
        })?;
    }
    Ok(Flattened {
        packed: output.finish()?,
        left_out: plan.left_out,
    })
}

fn write_directories(
    survivors: &Survivors,
    output: &mut Emitter<impl Write>,
) -> Result<(), ArchiveError> {
    for (index, directory) in survivors.directories.iter().enumerate() {
        let name = match index {
            0 => b"./".to_vec(),
            _ => {
                let mut name = survivors.path(&directory.place);
                if name.len() < LONGEST_NAME {
                    name.push(b'/');
                }
                name
            }
        };
        output.begin(&Header {
            kind: tar::EntryType::Directory,
            extended: directory.extended.as_deref(),
            ..header(&name, &directory.attributes)
        })?;
    }
    Ok(())
}

/// Returns the header of an empty file.
fn header<'a>(name: &'a [u8], attributes: &Attributes) -> Header<'a> {
    Header {
        name,
        link: b"",
        kind: tar::EntryType::Regular,
        mode: attributes.mode,
        owner: (attributes.uid, attributes.gid),
        size: 0,
        mtime: attributes.mtime,
        extended: None,
    }
}

/// Copies the files that are left out of their layers.
struct Copying<'a, W: Write> {
    survivors: &'a Survivors,
    /// Those that have not come yet, in the order in which they come.
    files: std::iter::Peekable<std::slice::Iter<'a, PlannedFile>>,
    /// The number of the next one.
    next: u32,
    /// By number, the files that have further names, whose entries say the same as the file's.
    linked: HashMap<u32, Attributes>,
    output: Emitter<W>,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Copying<'a, W> {
    fn new(survivors: &'a Survivors, output: Emitter<W>) -> Self {
        let unknown = super::tree::IMPLIED;
        let links = survivors.links.iter();
        Self {
            survivors,
            files: survivors.files.iter().peekable(),
            next: 0,
            linked: links.map(|link| (link.file, unknown)).collect(),
            output,
            buffer: vec![0; BUFFER],
        }
    }

    /// Returns the place of the file, if it is the one to come.
    fn awaited(&mut self, file: &NewFile) -> Option<&'a Place> {
        let planned = self
            .files
            .next_if(|planned| planned.content == file.content)?;
        if let Some(attributes) = self.linked.get_mut(&self.next) {
            *attributes = file.attributes;
        }
        self.next += 1;
        Some(&planned.place)
    }
}

impl<W: Write> Contents for Copying<'_, W> {
    fn take<R: Read>(
        &mut self,
        _: &[u8],
        file: NewFile,
        reader: &mut TarReader<R>,
    ) -> Result<(), ArchiveError> {
        let Some(place) = self.awaited(&file) else {
            return Ok(());
        };
        self.output.begin(&Header {
            size: file.size,
            extended: file.extended.as_deref(),
            ..header(&self.survivors.path(place), &file.attributes)
        })?;
        let mut copied = 0;
        loop {
            match reader.read(&mut self.buffer)? {
                0 => break,
                count => {
                    self.output.write(&self.buffer[..count])?;
                    copied += count as u64;
                }
            }
        }
        debug_assert_eq!(copied, file.size, "a reader gives all of a file");
        self.output.pad(copied)
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        Ok(())
    }
}
