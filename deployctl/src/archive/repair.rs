//! Restores what a tree on a disk has otherwise than its layers: each name by one rename of what
//! was written and synced beside the tree. For whoever has compared the two.
//!
//! The walls are those of unpacking: every directory is opened beneath the tree's descriptor,
//! no link is followed, and the threads can reach nothing outside where the kernel has Landlock.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::Arc,
    thread,
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode},
    io::Errno,
};

use super::{
    ArchiveError, Described, Deviation, Drift, Layers, UnpackOptions,
    beneath::{DIRECTORY, open_directory},
    compare::Node,
    incoming::{ContentId, Incoming},
    metadata::Metadata,
    remove::remove_entry,
    rules::Rules,
    sandbox::{Walls, confine},
    survivors::Place,
    unpack::receive,
};

/// What is made beside the tree before it is renamed.
const BESIDE: &str = "beside";
const IN_THE_WAY: &str = "a directory with something in it stands there";
const MOUNTED: &str = "something is mounted there";
const NO_PARENT: &str = "its directory is not there";
const UNASKED: &str = "the layers say nothing of it";

/// What becomes of names that the layers do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extras {
    /// They stay, and so does a directory with something in it where the layers have a file.
    Leave,
    /// They are removed with all that is in them.
    Remove,
}

/// Where and how a tree is restored.
#[derive(Clone, Debug)]
pub struct Repair<'a> {
    /// The tree.
    pub root: &'a Path,
    /// An empty directory in the one that the tree is in: what is written comes there first. The
    /// caller removes it, with what is left there.
    pub staging: &'a Path,
    /// As the tree was unpacked.
    pub options: &'a UnpackOptions,
    /// What becomes of what the layers do not have.
    pub extras: Extras,
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// It is as the layers have it.
    Restored,
    /// It was no name of theirs and is gone.
    Removed,
    /// It stays as it is, for this reason.
    Left(&'static str),
}

/// Restores `drifts`, which [`Described::compare`] found in the tree, and returns what became of
/// each. The layers are read once more and are the ones that were described. When it returns, all
/// is on stable storage; after an error, or a crash, some names are restored and the others as they
/// were.
///
/// # Errors
/// Those of [`Layers::plan`]; [`ArchiveError::Io`] with the path.
pub fn repair(
    layers: &mut Layers,
    described: &Described,
    drifts: &[Drift],
    repair: &Repair<'_>,
) -> Result<Vec<Repaired>, ArchiveError> {
    let open = |path: &Path| {
        fs::open(path, DIRECTORY, Mode::empty())
            .map_err(|errno| ArchiveError::io("open", path)(errno.into()))
    };
    let (tree, staging) = (open(repair.root)?, open(repair.staging)?);
    let around = open(repair.root.parent().unwrap_or(repair.root))?;
    let stat =
        fs::fstat(&tree).map_err(|errno| ArchiveError::io("read", repair.root)(errno.into()))?;
    let options = repair.options;
    let metadata = Metadata::new(Rules::of(options));
    let metadata = metadata.beside(stat.st_uid, stat.st_gid);
    let incoming = Arc::new(Incoming::create(staging.as_fd(), repair.staging, metadata)?);
    let work = || {
        confine(&Walls {
            root: around.as_fd(),
            writable: incoming.writable().collect(),
            readable: None,
            take_over: options.take_over,
        });
        let wanted = wanted(described, drifts);
        if !wanted.is_empty() {
            let staging = (staging.as_fd(), repair.staging);
            receive(
                layers,
                options,
                &incoming,
                staging.0,
                staging.1,
                Some(&wanted),
            )?;
            // What is renamed into the tree has to be whole after a power cut.
            fs::syncfs(staging.0)
                .map_err(|errno| ArchiveError::io("sync", staging.1)(errno.into()))?;
        }
        let repairing = Repairing {
            described,
            repair,
            tree: tree.as_fd(),
            staging: staging.as_fd(),
            incoming: &incoming,
            metadata,
            touched: BTreeSet::new(),
            replaced: HashSet::new(),
        };
        repairing.run(drifts)
    };
    // A thread of its own: there is no way out of the sandbox.
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Returns the content of the files that are made anew: those that deviate in anything. What is
/// changed in place would be changed under another name too, which somebody may have given it.
fn wanted(described: &Described, drifts: &[Drift]) -> HashSet<ContentId> {
    let files = &described.plan.survivors.files;
    let content = |drift: &Drift| match drift.node {
        Node::File(file) => Some(files[file as usize].content),
        _ => None,
    };
    drifts.iter().filter_map(content).collect()
}

struct Repairing<'a> {
    described: &'a Described,
    repair: &'a Repair<'a>,
    tree: BorrowedFd<'a>,
    staging: BorrowedFd<'a>,
    incoming: &'a Incoming,
    metadata: Metadata,
    /// Directories whose metadata is to be set once everything else is done.
    touched: BTreeSet<u32>,
    /// Files that were made anew; their other names have to follow.
    replaced: HashSet<u32>,
}

/// A name that stays as it is, or an error.
enum Stopped {
    Left(&'static str),
    Failed(Errno),
}

impl From<Errno> for Stopped {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl Repairing<'_> {
    fn run(mut self, drifts: &[Drift]) -> Result<Vec<Repaired>, ArchiveError> {
        let mut outcomes = vec![Repaired::Restored; drifts.len()];
        // Parents come before what is in them, and files before their further names.
        for pass in [
            Self::directory,
            Self::file,
            Self::link,
            Self::symlink,
            Self::extra,
        ] {
            for (drift, outcome) in drifts.iter().zip(&mut outcomes) {
                match pass(&mut self, drift) {
                    Ok(None) => {}
                    Ok(Some(repaired)) => *outcome = repaired,
                    Err(Stopped::Left(reason)) => *outcome = Repaired::Left(reason),
                    Err(Stopped::Failed(errno)) => return Err(self.failed(&drift.path, errno)),
                }
            }
        }
        self.other_names()?;
        self.finish_directories()?;
        fs::syncfs(self.tree).map_err(|errno| self.failed(Path::new(""), errno))?;
        Ok(outcomes)
    }

    fn directory(&mut self, drift: &Drift) -> Result<Option<Repaired>, Stopped> {
        let Node::Directory(index) = drift.node else {
            return Ok(None);
        };
        let place = &self.described.plan.survivors.directories[index as usize].place;
        match drift.deviations.first() {
            Some(Deviation::Type { found, .. }) if *found == "mount point" => {
                return Err(Stopped::Left(MOUNTED));
            }
            Some(Deviation::Type { .. } | Deviation::Missing) => {
                let parent = self.writable(place.directory)?;
                match fs::unlinkat(&parent, &*place.name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno.into()),
                }
                fs::mkdirat(&parent, &*place.name, Mode::RWXU)?;
            }
            _ => {}
        }
        self.touched.insert(index);
        Ok(None)
    }

    fn file(&mut self, drift: &Drift) -> Result<Option<Repaired>, Stopped> {
        let Node::File(index) = drift.node else {
            return Ok(None);
        };
        let file = &self.described.plan.survivors.files[index as usize];
        let directory = self.cleared(&file.place)?;
        let name = &file.place.name;
        self.incoming
            .replace(file.content, directory.as_fd(), name)?;
        self.replaced.insert(index);
        Ok(None)
    }

    fn link(&mut self, drift: &Drift) -> Result<Option<Repaired>, Stopped> {
        let Node::Link(index) = drift.node else {
            return Ok(None);
        };
        self.make_link(index)?;
        Ok(None)
    }

    fn make_link(&mut self, index: u32) -> Result<(), Stopped> {
        let survivors = &self.described.plan.survivors;
        let link = &survivors.links[index as usize];
        let file = &survivors.files[link.file as usize].place;
        let directory = self.cleared(&link.place)?;
        let path = survivors.directory_path(file.directory);
        let from = open_directory(self.tree, &path).map_err(missing)?;
        // Not what stands there in its stead.
        let stat = fs::statat(&from, &*file.name, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Stopped::Left("its file is not there"));
        }
        fs::linkat(&from, &*file.name, self.staging, BESIDE, AtFlags::empty())?;
        fs::renameat(self.staging, BESIDE, &directory, &*link.place.name)?;
        // Two names of one file are not renamed onto each other.
        match fs::unlinkat(self.staging, BESIDE, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn symlink(&mut self, drift: &Drift) -> Result<Option<Repaired>, Stopped> {
        let Node::Symlink(index) = drift.node else {
            return Ok(None);
        };
        let link = &self.described.plan.survivors.symlinks[index as usize];
        let directory = self.cleared(&link.place)?;
        fs::symlinkat(&*link.target, self.staging, BESIDE)?;
        let name = BESIDE.as_bytes();
        self.metadata
            .set_link(self.staging, name, &link.attributes)?;
        fs::renameat(self.staging, BESIDE, &directory, &*link.place.name)?;
        Ok(None)
    }

    fn extra(&mut self, drift: &Drift) -> Result<Option<Repaired>, Stopped> {
        let Node::Extra(index) = drift.node else {
            return Ok(None);
        };
        if self.repair.extras == Extras::Leave {
            return Err(Stopped::Left(UNASKED));
        }
        let name = drift.path.file_name().unwrap_or_default().as_bytes();
        let directory = self.writable(index)?;
        remove(directory.as_fd(), name)?;
        Ok(Some(Repaired::Removed))
    }

    /// Has every further name of a file that was made anew be one of it.
    fn other_names(&mut self) -> Result<(), ArchiveError> {
        let links = &self.described.plan.survivors.links;
        for (link, index) in links.iter().zip(0_u32..) {
            if self.replaced.contains(&link.file)
                && let Err(Stopped::Failed(errno)) = self.make_link(index)
            {
                let path = self.described.plan.survivors.path(&link.place);
                return Err(self.failed(Path::new(OsStr::from_bytes(&path)), errno));
            }
        }
        Ok(())
    }

    /// Sets the metadata of the directories that something was done to, children before parents.
    fn finish_directories(&self) -> Result<(), ArchiveError> {
        let survivors = &self.described.plan.survivors;
        for index in self.touched.iter().rev() {
            let directory = &survivors.directories[*index as usize];
            let path = survivors.directory_path(*index);
            let failed = |errno| self.failed(Path::new(OsStr::from_bytes(&path)), errno);
            let opened = open_directory(self.tree, &path).map_err(failed)?;
            self.metadata
                .set_directory(&opened, &directory.attributes, &directory.extended)
                .map_err(|unset| unset.into_error(failed))?;
        }
        Ok(())
    }

    /// Returns the directory of a name at which no directory stands in the way.
    fn cleared(&mut self, place: &Place) -> Result<OwnedFd, Stopped> {
        let directory = self.writable(place.directory)?;
        let stat = match fs::statat(&directory, &*place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(directory),
            stat => stat?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match fs::unlinkat(&directory, &*place.name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) if self.repair.extras == Extras::Remove => {
                    remove(directory.as_fd(), &place.name)?;
                }
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Err(Stopped::Left(IN_THE_WAY)),
                Err(Errno::BUSY) => return Err(Stopped::Left(MOUNTED)),
                removed => removed?,
            }
        }
        Ok(directory)
    }

    /// Returns a directory of the tree in which names can be made.
    fn writable(&mut self, index: u32) -> Result<OwnedFd, Stopped> {
        let path = self.described.plan.survivors.directory_path(index);
        let opened = open_directory(self.tree, &path).map_err(missing)?;
        if self.touched.insert(index) && !rustix::process::geteuid().is_root() {
            let mode = Mode::from_raw_mode(fs::fstat(&opened)?.st_mode);
            if !mode.contains(Mode::RWXU) {
                fs::fchmod(&opened, mode | Mode::RWXU)?;
            }
        }
        Ok(opened)
    }

    fn failed(&self, path: &Path, errno: Errno) -> ArchiveError {
        ArchiveError::io("restore", self.repair.root.join(path))(errno.into())
    }
}

/// Says of a directory that cannot be opened because it is none that names in it stay.
fn missing(errno: Errno) -> Stopped {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Stopped::Left(NO_PARENT),
        errno => Stopped::Failed(errno),
    }
}

fn remove(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    use rustix::path::Arg;
    name.into_with_c_str(|name| remove_entry(directory, name, FileType::Unknown))
}
