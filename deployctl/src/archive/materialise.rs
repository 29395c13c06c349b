//! Writes a planned tree to a disk: directories, files, hard links, symbolic links, metadata
//! deepest first. `unpack` calls it with a plan whose layers are verified.
//!
//! Nothing is ever overwritten or followed: every name is made anew beneath the root's
//! descriptor, and while files are written there is no symbolic link in the tree.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{self, AtFlags, Gid, Mode, OFlags, Timestamps, Uid},
    io::Errno,
};

use super::{
    ArchiveError, Layers, Limits, Plan, Rule,
    beneath::{DIRECTORY, open_directory},
    plan::{OpenLayer, Verify},
    reader::EntryKind,
    survivors::{Place, PlannedFile, Survivors},
    tree::Attributes,
};

/// How much of a file is copied at once.
const BUFFER: usize = 128 << 10;
/// Of a directory while it is filled: nobody else looks into a half-made tree.
const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
/// Of a file while it is written.
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Read, write, execute of owner, group and others.
const PERMISSION_BITS: u32 = 0o777;

/// Whose the files become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Of the numbers that the archives name; needs the right to give files away.
    Archive,
    /// Of the process.
    Process,
}

impl Ownership {
    /// Returns what fits the process: the archives' numbers for root, its own for others.
    pub fn of_process() -> Self {
        if rustix::process::geteuid().is_root() {
            Self::Archive
        } else {
            Self::Process
        }
    }
}

/// What becomes of setuid, setgid and sticky bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialBits {
    /// They are dropped: a deployed tree gives nobody rights that the operator did not see.
    Strip,
    /// They are set as the archives have them.
    Keep,
}

impl Layers {
    /// Writes the planned tree into `root`, an empty directory, and waits until all of it is on
    /// stable storage (one `syncfs`).
    ///
    /// After an error `root` holds a part of the tree, all of it beneath `root`.
    ///
    /// # Errors
    /// [`ArchiveError::NotEmpty`]; [`ArchiveError::Io`] with the path;
    /// [`ArchiveError::DiffId`] where a layer's bytes are no longer those that were planned.
    pub fn materialise(
        &mut self,
        plan: &Plan,
        root: &Path,
        ownership: Ownership,
        special_bits: SpecialBits,
    ) -> Result<(), ArchiveError> {
        let directory = fs::open(root, DIRECTORY, Mode::empty())
            .map_err(|errno| ArchiveError::io("open", root)(errno.into()))?;
        let mut entries = std::fs::read_dir(root).map_err(ArchiveError::io("read", root))?;
        if entries.next().is_some() {
            return Err(ArchiveError::NotEmpty(root.to_owned()));
        }
        let stop = self.stop().clone();
        let mut writer = Writer {
            root,
            descriptor: directory.as_fd(),
            survivors: &plan.survivors,
            ownership,
            special_bits,
            stop: &stop,
            last: None,
        };
        writer.make_directories()?;
        for (index, layer) in self.iter_mut().enumerate() {
            let diff_id = &plan.layers[index].diff_id;
            writer
                .write_files(index, layer, diff_id)
                .map_err(|error| error.in_layer(&layer.source.name))?;
        }
        writer.make_links()?;
        writer.make_symlinks()?;
        writer.finish_directories()?;
        fs::syncfs(&directory).map_err(|errno| ArchiveError::io("sync", root)(errno.into()))
    }
}

struct Writer<'a> {
    root: &'a Path,
    descriptor: BorrowedFd<'a>,
    survivors: &'a Survivors,
    ownership: Ownership,
    special_bits: SpecialBits,
    stop: &'a AtomicBool,
    /// The directory opened last: archives list what is in one directory together.
    last: Option<(u32, OwnedFd)>,
}

impl Writer<'_> {
    fn make_directories(&mut self) -> Result<(), ArchiveError> {
        let survivors = self.survivors;
        for directory in survivors.directories.iter().skip(1) {
            let place = &directory.place;
            self.go_on()?;
            let parent = self.directory(place.directory)?;
            fs::mkdirat(parent, &*place.name, PRIVATE_DIRECTORY)
                .map_err(|errno| self.failed("create", place, errno))?;
        }
        Ok(())
    }

    /// Writes the files that the layer brings and checks that it is still the layer that was
    /// planned.
    fn write_files(
        &mut self,
        index: usize,
        layer: &mut OpenLayer,
        diff_id: &deploy_spec::Digest,
    ) -> Result<(), ArchiveError> {
        let survivors = self.survivors;
        let start = survivors
            .files
            .partition_point(|file| usize::from(file.layer) < index);
        let end = survivors
            .files
            .partition_point(|file| usize::from(file.layer) <= index);
        let mut files = survivors.files[start..end].iter().peekable();
        if files.peek().is_none() {
            return Ok(());
        }
        // The limits have been kept once; the content's hash says that it is the same content.
        let mut reader = layer.reader(
            Verify::Content,
            &Limits {
                bytes: u64::MAX,
                ..Limits::default()
            },
        )?;
        let mut buffer = vec![0; BUFFER];
        let mut ordinal = 0;
        while let Some(entry) = reader.next()? {
            if let Some(file) = files.next_if(|file| file.ordinal == ordinal) {
                self.go_on()?;
                if entry.kind != (EntryKind::File { size: file.size }) {
                    return Err(ArchiveError::Changed(layer.source.path.clone()));
                }
                let mut output = self.create(file)?;
                loop {
                    let count = reader.read(&mut buffer)?;
                    if count == 0 {
                        break;
                    }
                    output.write_all(&buffer[..count]).map_err(|error| {
                        ArchiveError::io("write", self.shown(&file.place))(error)
                    })?;
                }
                self.describe(&output, &file.attributes)
                    .map_err(|errno| self.failed("set the metadata of", &file.place, errno))?;
            }
            ordinal += 1;
        }
        let (mut content, _) = reader.finish()?;
        content.drain()?;
        let (_, measured) = content.finish();
        if measured.diff_id != *diff_id {
            return Err(ArchiveError::Changed(layer.source.path.clone()));
        }
        Ok(())
    }

    fn create(&mut self, file: &PlannedFile) -> Result<File, ArchiveError> {
        let place = &file.place;
        let parent = self.directory(place.directory)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(parent, &*place.name, flags, PRIVATE_FILE)
            .map(File::from)
            .map_err(|errno| self.failed("create", place, errno))
    }

    fn make_links(&mut self) -> Result<(), ArchiveError> {
        let survivors = self.survivors;
        for link in &survivors.links {
            self.go_on()?;
            let source = &survivors.files[link.file as usize].place;
            let path = survivors.directory_path(source.directory);
            let from = open_directory(self.descriptor, &path)
                .map_err(|errno| self.failed("open", source, errno))?;
            let place = &link.place;
            let to = self.directory(place.directory)?;
            fs::linkat(from, &*source.name, to, &*place.name, AtFlags::empty())
                .map_err(|errno| self.failed("link", place, errno))?;
        }
        Ok(())
    }

    fn make_symlinks(&mut self) -> Result<(), ArchiveError> {
        let survivors = self.survivors;
        for link in &survivors.symlinks {
            self.go_on()?;
            let place = &link.place;
            let ownership = self.ownership;
            let parent = self.directory(place.directory)?;
            let make = || {
                fs::symlinkat(&*link.target, parent, &*place.name)?;
                if ownership == Ownership::Archive {
                    let (uid, gid) = owner(&link.attributes);
                    fs::chownat(
                        parent,
                        &*place.name,
                        Some(uid),
                        Some(gid),
                        AtFlags::SYMLINK_NOFOLLOW,
                    )?;
                }
                fs::utimensat(
                    parent,
                    &*place.name,
                    &times(&link.attributes),
                    AtFlags::SYMLINK_NOFOLLOW,
                )
            };
            make().map_err(|errno| self.failed("create", place, errno))?;
        }
        Ok(())
    }

    /// Sets the directories' metadata, children before parents: filling a directory changes
    /// its time, and one that may not be written cannot be filled.
    fn finish_directories(&mut self) -> Result<(), ArchiveError> {
        let survivors = self.survivors;
        for (index, directory) in survivors.directories.iter().enumerate().rev() {
            self.go_on()?;
            let index = u32::try_from(index).expect("directories are counted in 32 bits");
            let path = survivors.directory_path(index);
            open_directory(self.descriptor, &path)
                .and_then(|opened| self.describe(&opened, &directory.attributes))
                .map_err(|errno| self.failed("set the metadata of", &directory.place, errno))?;
        }
        Ok(())
    }

    /// Sets owner, mode and time. In this order: giving a file away drops its special bits,
    /// and all of it changes the time.
    fn describe(&self, file: impl AsFd, attributes: &Attributes) -> Result<(), Errno> {
        if self.ownership == Ownership::Archive {
            let (uid, gid) = owner(attributes);
            fs::fchown(&file, Some(uid), Some(gid))?;
        }
        let mode = match self.special_bits {
            SpecialBits::Strip => attributes.mode & PERMISSION_BITS,
            SpecialBits::Keep => attributes.mode,
        };
        fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        fs::futimens(&file, &times(attributes))
    }

    /// Returns the descriptor of a directory.
    fn directory(&mut self, directory: u32) -> Result<BorrowedFd<'_>, ArchiveError> {
        let opened = match self.last.take() {
            Some((last, descriptor)) if last == directory => descriptor,
            _ => {
                let path = self.survivors.directory_path(directory);
                open_directory(self.descriptor, &path).map_err(|errno| {
                    let place = &self.survivors.directories[directory as usize].place;
                    self.failed("open", place, errno)
                })?
            }
        };
        let last = self.last.insert((directory, opened));
        Ok(last.1.as_fd())
    }

    fn go_on(&self) -> Result<(), ArchiveError> {
        if self.stop.load(Ordering::Relaxed) {
            Err(ArchiveError::Interrupted)
        } else {
            Ok(())
        }
    }

    fn failed(&self, action: &'static str, place: &Place, errno: Errno) -> ArchiveError {
        if errno == Errno::EXIST {
            return ArchiveError::refused(&self.survivors.path(place), Rule::Collision);
        }
        ArchiveError::io(action, self.shown(place))(errno.into())
    }

    fn shown(&self, place: &Place) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.root
            .join(std::ffi::OsStr::from_bytes(&self.survivors.path(place)))
    }
}

fn owner(attributes: &Attributes) -> (Uid, Gid) {
    (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid))
}

/// Access and modification time are one: when the file was last read is nobody's news.
fn times(attributes: &Attributes) -> Timestamps {
    let time = attributes.mtime.to_timespec();
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
