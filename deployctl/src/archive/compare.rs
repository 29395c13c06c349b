//! What a tree on a disk has otherwise than the layers that it was made of. Reads everything and
//! changes nothing; follows no link, and looks at nothing that is mounted within.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::{
    ArchiveError, Described,
    beneath::{DIRECTORY, open_directory},
    describe::ContentHasher,
    extended::Extended,
    metadata::{MODE_BITS, has_time},
    survivors::Place,
    threads::parallelism,
    tree::Attributes,
};

/// How much of a file is read at once.
const PIECE: usize = 128 << 10;
/// So many files are worth a thread.
const FILES: usize = 64;
/// Opens what is to be read: no link, and nothing that has the reader wait.
const READABLE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A name that is not as the layers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Where, relative to the root; empty for the root itself.
    pub path: PathBuf,
    /// In what, most important first; never empty.
    pub deviations: Vec<Deviation>,
    pub(super) node: Node,
}

/// What is planned under a name, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory(u32),
    File(u32),
    Link(u32),
    Symlink(u32),
    /// Nothing is planned; in this directory.
    Extra(u32),
}

/// In what a name is not as the layers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deviation {
    /// There is nothing.
    Missing,
    /// The layers have no such name. A directory stands for all that is in it.
    Extra(&'static str),
    /// Something else stands there.
    Type {
        /// What the layers have.
        expected: &'static str,
        /// What there is.
        found: &'static str,
    },
    /// The content of a file.
    Content,
    /// Where a symbolic link leads.
    Target {
        /// What the layers have.
        expected: PathBuf,
        /// What there is.
        found: PathBuf,
    },
    /// It is a file of its own and no further name of this one.
    Link(PathBuf),
    /// The permission bits.
    Mode {
        /// What the layers have, as far as it is taken over.
        expected: u32,
        /// What there is.
        found: u32,
    },
    /// Owner and group.
    Owner {
        /// What the layers have, or the whole tree.
        expected: (u32, u32),
        /// What there is.
        found: (u32, u32),
    },
    /// When a file was modified; not looked at where the content is another one.
    Time,
    /// An extended attribute of this name.
    Attribute(String),
}

impl Described {
    /// Returns what the tree at `root` has otherwise, sorted by name. The modification times of
    /// files count, not those of directories, which change whenever something is put there. `stop`
    /// set to true ends it.
    ///
    /// # Errors
    /// [`ArchiveError::Io`] for what cannot be read; [`ArchiveError::Interrupted`].
    pub fn compare(&self, root: &Path, stop: &AtomicBool) -> Result<Vec<Drift>, ArchiveError> {
        let failed = |errno: Errno| ArchiveError::io("open", root)(errno.into());
        let descriptor = fs::open(root, DIRECTORY, Mode::empty()).map_err(failed)?;
        let stat = fs::fstat(&descriptor).map_err(failed)?;
        let comparing = Comparing {
            described: self,
            root,
            descriptor: descriptor.as_fd(),
            owner: (stat.st_uid, stat.st_gid),
            stop,
        };
        let mut drifts = comparing.directories()?;
        drifts.extend(comparing.files()?);
        drifts.extend(comparing.links()?);
        drifts.extend(comparing.symlinks()?);
        drifts.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(drifts)
    }
}

struct Comparing<'a> {
    described: &'a Described,
    root: &'a Path,
    descriptor: BorrowedFd<'a>,
    /// Whose the tree is.
    owner: (u32, u32),
    stop: &'a AtomicBool,
}

/// The directory opened last; nothing where it is none.
type Last = Option<(u32, Option<OwnedFd>)>;

impl Comparing<'_> {
    fn directories(&self) -> Result<Vec<Drift>, ArchiveError> {
        let survivors = &self.described.plan.survivors;
        let planned: HashSet<(u32, &[u8])> = {
            let directories = survivors.directories.iter().skip(1).map(|one| &one.place);
            let files = survivors.files.iter().map(|one| &one.place);
            let links = survivors.links.iter().map(|one| &one.place);
            let symlinks = survivors.symlinks.iter().map(|one| &one.place);
            let places = directories.chain(files).chain(links).chain(symlinks);
            places
                .map(|place| (place.directory, &*place.name))
                .collect()
        };
        let mut drifts = Vec::new();
        let mut parent = None;
        for (index, directory) in (0_u32..).zip(&survivors.directories) {
            self.go_on()?;
            let (place, node) = (&directory.place, Node::Directory(index));
            let path = survivors.directory_path(index);
            let opened = match open_directory(self.descriptor, &path) {
                Ok(opened) => opened,
                Err(Errno::XDEV) => {
                    drifts.push(self.drift(place, node, vec![other("directory", "mount point")]));
                    continue;
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    let found = self.stat(&mut parent, place)?;
                    let deviation = deviation(found.as_ref(), "directory");
                    drifts.push(self.drift(place, node, vec![deviation]));
                    continue;
                }
                Err(errno) => return Err(self.failed("open", place, errno)),
            };
            let stat = fs::fstat(&opened).map_err(|errno| self.failed("read", place, errno))?;
            let (attributes, extended) = (&directory.attributes, &directory.extended);
            let mode = self.described.rules.directory_mode(attributes);
            let deviations = self.metadata((&stat, opened.as_fd()), mode, attributes, extended);
            let deviations = deviations.map_err(|errno| self.failed("read", place, errno))?;
            if !deviations.is_empty() {
                drifts.push(self.drift(place, node, deviations));
            }
            let known = |name: &[u8]| planned.contains(&(index, name));
            let extras = extras(&opened, index, &path, known);
            drifts.extend(extras.map_err(|errno| self.failed("read", place, errno))?);
        }
        Ok(drifts)
    }

    fn files(&self) -> Result<Vec<Drift>, ArchiveError> {
        let count = self.described.files.len();
        let share = count.div_ceil(parallelism()).max(FILES);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .step_by(share)
                .map(|first| scope.spawn(move || self.some_files(first, share)))
                .collect();
            let mut drifts = Vec::new();
            for thread in threads {
                let found = thread.join();
                drifts.extend(found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(drifts)
        })
    }

    fn some_files(&self, first: usize, count: usize) -> Result<Vec<Drift>, ArchiveError> {
        let files = self.described.plan.survivors.files.iter();
        let files = files.zip(&self.described.files).zip(0_u32..);
        let mut drifts = Vec::new();
        let (mut last, mut buffer) = (None, vec![0; PIECE]);
        for ((file, facts), index) in files.skip(first).take(count) {
            self.go_on()?;
            let (place, node) = (&file.place, Node::File(index));
            let stat = self.stat(&mut last, place)?;
            let Some(stat) = stat.filter(|stat| kind(stat) == "file") else {
                let deviation = deviation(stat.as_ref(), "file");
                drifts.push(self.drift(place, node, vec![deviation]));
                continue;
            };
            let failed = |errno| self.failed("read", place, errno);
            let Some(directory) = self.directory(&mut last, place.directory).map_err(failed)?
            else {
                continue;
            };
            let opened = fs::openat(directory, &*place.name, READABLE, Mode::empty());
            let opened = opened.map_err(failed)?;
            let mut content = File::from(opened);
            let mut deviations = Vec::new();
            let mut alike = u64::try_from(stat.st_size) == Ok(file.size);
            if alike {
                let mut hasher = ContentHasher::new();
                loop {
                    self.go_on()?;
                    let read = content.read(&mut buffer);
                    match read.map_err(|error| self.error("read", place, error))? {
                        0 => break,
                        count => hasher.update(&buffer[..count]),
                    }
                }
                alike = hasher.finish() == facts.hash;
            }
            if !alike {
                deviations.push(Deviation::Content);
            }
            let (attributes, extended) = (&facts.attributes, &facts.extended);
            let mode = self.described.rules.file_mode(attributes);
            let metadata = self.metadata((&stat, content.as_fd()), mode, attributes, extended);
            deviations.extend(metadata.map_err(failed)?);
            if alike && !has_time(&stat, attributes) {
                deviations.push(Deviation::Time);
            }
            if !deviations.is_empty() {
                drifts.push(self.drift(place, node, deviations));
            }
        }
        Ok(drifts)
    }

    fn links(&self) -> Result<Vec<Drift>, ArchiveError> {
        let survivors = &self.described.plan.survivors;
        let mut drifts = Vec::new();
        let (mut last, mut last_first) = (None, None);
        for (link, index) in survivors.links.iter().zip(0_u32..) {
            self.go_on()?;
            let place = &link.place;
            let first = &survivors.files[link.file as usize].place;
            let found = self.stat(&mut last, place)?;
            let deviation = match &found {
                Some(stat) if kind(stat) == "file" => {
                    let file = self.stat(&mut last_first, first)?;
                    let same =
                        |file: &Stat| (file.st_dev, file.st_ino) == (stat.st_dev, stat.st_ino);
                    if file.as_ref().is_some_and(same) {
                        continue;
                    }
                    Deviation::Link(path(survivors.path(first)))
                }
                other => deviation(other.as_ref(), "file"),
            };
            drifts.push(self.drift(place, Node::Link(index), vec![deviation]));
        }
        Ok(drifts)
    }

    fn symlinks(&self) -> Result<Vec<Drift>, ArchiveError> {
        let mut drifts = Vec::new();
        let mut last = None;
        for (link, index) in self.described.plan.survivors.symlinks.iter().zip(0_u32..) {
            self.go_on()?;
            let (place, node) = (&link.place, Node::Symlink(index));
            let failed = |errno| self.failed("read", place, errno);
            let stat = self.stat(&mut last, place)?;
            let directory = self.directory(&mut last, place.directory).map_err(failed)?;
            let (Some(stat), Some(directory)) = (
                stat.as_ref().filter(|stat| kind(stat) == "symbolic link"),
                directory,
            ) else {
                let deviation = deviation(stat.as_ref(), "symbolic link");
                drifts.push(self.drift(place, node, vec![deviation]));
                continue;
            };
            let target = fs::readlinkat(directory, &*place.name, Vec::new()).map_err(failed)?;
            let mut deviations = Vec::new();
            if target.as_bytes() != &*link.target {
                deviations.push(Deviation::Target {
                    expected: path(link.target.to_vec()),
                    found: path(target.into_bytes()),
                });
            }
            deviations.extend(self.owner(stat, &link.attributes));
            if !deviations.is_empty() {
                drifts.push(self.drift(place, node, deviations));
            }
        }
        Ok(drifts)
    }

    /// Returns in what mode, owner and attributes deviate.
    fn metadata(
        &self,
        (stat, file): (&Stat, BorrowedFd<'_>),
        expected: u32,
        attributes: &Attributes,
        extended: &Extended,
    ) -> Result<Vec<Deviation>, Errno> {
        let mut deviations = Vec::new();
        let found = stat.st_mode & MODE_BITS;
        if expected != found {
            deviations.push(Deviation::Mode { expected, found });
        }
        deviations.extend(self.owner(stat, attributes));
        if let Some(extended) = extended
            && let Some(name) = extended.missing_of(file)?
        {
            let name = String::from_utf8_lossy(name).into_owned();
            deviations.push(Deviation::Attribute(name));
        }
        Ok(deviations)
    }

    fn owner(&self, stat: &Stat, attributes: &Attributes) -> Option<Deviation> {
        let expected = self.described.rules.owner(attributes).unwrap_or(self.owner);
        let found = (stat.st_uid, stat.st_gid);
        (expected != found).then_some(Deviation::Owner { expected, found })
    }

    /// Returns what is known of a name; nothing where there is none.
    fn stat(&self, last: &mut Last, place: &Place) -> Result<Option<Stat>, ArchiveError> {
        let found = match self.directory(last, place.directory) {
            Ok(None) => return Ok(None),
            Ok(Some(directory)) => fs::statat(directory, &*place.name, AtFlags::SYMLINK_NOFOLLOW),
            Err(errno) => Err(errno),
        };
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("read", place, errno)),
        }
    }

    /// Returns the descriptor of a planned directory; nothing where there is none.
    fn directory<'l>(
        &self,
        last: &'l mut Last,
        directory: u32,
    ) -> Result<Option<BorrowedFd<'l>>, Errno> {
        if last.as_ref().is_none_or(|(number, _)| *number != directory) {
            let path = self.described.plan.survivors.directory_path(directory);
            let opened = match open_directory(self.descriptor, &path) {
                Ok(opened) => Some(opened),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => None,
                Err(errno) => return Err(errno),
            };
            *last = Some((directory, opened));
        }
        let opened = last.as_ref().and_then(|(_, opened)| opened.as_ref());
        Ok(opened.map(|opened| opened.as_fd()))
    }

    fn drift(&self, place: &Place, node: Node, deviations: Vec<Deviation>) -> Drift {
        Drift {
            path: path(self.described.plan.survivors.path(place)),
            deviations,
            node,
        }
    }

    fn go_on(&self) -> Result<(), ArchiveError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(ArchiveError::Interrupted),
            false => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, place: &Place, errno: Errno) -> ArchiveError {
        self.error(action, place, errno.into())
    }

    fn error(&self, action: &'static str, place: &Place, error: std::io::Error) -> ArchiveError {
        let path = path(self.described.plan.survivors.path(place));
        ArchiveError::io(action, self.root.join(path))(error)
    }
}

/// Returns what stands in a directory, at `path`, and is not known.
fn extras(
    directory: &OwnedFd,
    index: u32,
    at: &[u8],
    known: impl Fn(&[u8]) -> bool,
) -> Result<Vec<Drift>, Errno> {
    let mut extras = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || known(name.to_bytes()) {
            continue;
        }
        let stat = match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Gone again.
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        let parts = [at, name.to_bytes()];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        extras.push(Drift {
            path: path(parts.collect::<Vec<_>>().join(&b'/')),
            deviations: vec![Deviation::Extra(kind(&stat))],
            node: Node::Extra(index),
        });
    }
    Ok(extras)
}

fn deviation(found: Option<&Stat>, expected: &'static str) -> Deviation {
    match found {
        None => Deviation::Missing,
        Some(stat) => other(expected, kind(stat)),
    }
}

fn other(expected: &'static str, found: &'static str) -> Deviation {
    Deviation::Type { expected, found }
}

/// Returns what something is, in words.
pub(super) fn kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "unknown kind",
    }
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}
