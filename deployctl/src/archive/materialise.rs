//! Puts a planned tree in its place: directories, files, hard links, symbolic links, metadata
//! deepest first. `unpack` calls it with a plan whose layers are verified, and whose content is
//! on the disk.
//!
//! Nothing is ever overwritten or followed: every name is made anew beneath the root's
//! descriptor, and while files are placed there is no symbolic link in the tree.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rustix::{
    fs::{self, AtFlags, Mode},
    io::Errno,
};

use super::{
    ArchiveError, Rule,
    beneath::open_directory,
    full::explain,
    incoming::{Incoming, Taken},
    metadata::Metadata,
    survivors::{Place, PlannedFile, Survivors},
    threads::parallelism,
};

/// Of a directory while it is filled: nobody else looks into a half-made tree.
const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
/// So many files are worth a thread.
const FILES: usize = 256;

/// A tree on its way into a directory.
pub(super) struct Materialising<'a> {
    /// Where it comes.
    pub(super) root: &'a Path,
    pub(super) descriptor: BorrowedFd<'a>,
    pub(super) survivors: &'a Survivors,
    pub(super) metadata: Metadata,
    /// Set by the caller.
    pub(super) stop: &'a AtomicBool,
}

/// The directory opened last: archives list what is in one directory together.
type Last = Option<(u32, OwnedFd)>;

impl Materialising<'_> {
    /// Makes the tree, with the content that is there, and returns how much of it an earlier tree
    /// had. After an error the directory holds a part of it.
    pub(super) fn run(&self, incoming: Incoming) -> Result<Taken, ArchiveError> {
        self.make_directories()?;
        self.place_files(&incoming)?;
        self.make_links()?;
        self.make_symlinks()?;
        // Before the directories: the root's time is not to change any more.
        let taken = incoming.taken();
        incoming.remove()?;
        self.finish_directories()?;
        Ok(taken)
    }

    fn make_directories(&self) -> Result<(), ArchiveError> {
        let mut last = None;
        for directory in self.survivors.directories.iter().skip(1) {
            let place = &directory.place;
            self.go_on()?;
            let parent = self.directory(&mut last, place.directory)?;
            fs::mkdirat(parent, &*place.name, PRIVATE_DIRECTORY)
                .map_err(|errno| self.failed("create", place, errno))?;
        }
        Ok(())
    }

    fn place_files(&self, incoming: &Incoming) -> Result<(), ArchiveError> {
        let files = &self.survivors.files;
        let share = files.len().div_ceil(parallelism()).max(FILES);
        thread::scope(|scope| {
            let place = |files| scope.spawn(move || self.place(files, incoming));
            let threads: Vec<_> = files.chunks(share).map(place).collect();
            threads.into_iter().try_for_each(|thread| {
                let placed = thread.join();
                placed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    fn place(&self, files: &[PlannedFile], incoming: &Incoming) -> Result<(), ArchiveError> {
        let mut last = None;
        for file in files {
            self.go_on()?;
            let place = &file.place;
            let directory = self.directory(&mut last, place.directory)?;
            (incoming.place(file, directory))
                .map_err(|errno| self.failed("create", place, errno))?;
        }
        Ok(())
    }

    fn make_links(&self) -> Result<(), ArchiveError> {
        let survivors = self.survivors;
        let mut last = None;
        for link in &survivors.links {
            self.go_on()?;
            let source = &survivors.files[link.file as usize].place;
            let path = survivors.directory_path(source.directory);
            let from = open_directory(self.descriptor, &path)
                .map_err(|errno| self.failed("open", source, errno))?;
            let place = &link.place;
            let to = self.directory(&mut last, place.directory)?;
            fs::linkat(from, &*source.name, to, &*place.name, AtFlags::empty())
                .map_err(|errno| self.failed("link", place, errno))?;
        }
        Ok(())
    }

    fn make_symlinks(&self) -> Result<(), ArchiveError> {
        let mut last = None;
        for link in &self.survivors.symlinks {
            self.go_on()?;
            let place = &link.place;
            let parent = self.directory(&mut last, place.directory)?;
            fs::symlinkat(&*link.target, parent, &*place.name)
                .and_then(|()| {
                    self.metadata
                        .set_link(parent, &place.name, &link.attributes)
                })
                .map_err(|errno| self.failed("create", place, errno))?;
        }
        Ok(())
    }

    /// Sets the directories' metadata, children before parents: filling a directory changes
    /// its time, and one that may not be written cannot be filled.
    fn finish_directories(&self) -> Result<(), ArchiveError> {
        let survivors = self.survivors;
        for (index, directory) in survivors.directories.iter().enumerate().rev() {
            self.go_on()?;
            let index = u32::try_from(index).expect("directories are counted in 32 bits");
            let path = survivors.directory_path(index);
            let failed = |errno| self.failed("set the metadata of", &directory.place, errno);
            let opened = open_directory(self.descriptor, &path).map_err(failed)?;
            self.metadata
                .set_directory(&opened, &directory.attributes, &directory.extended)
                .map_err(|unset| unset.into_error(failed))?;
        }
        Ok(())
    }

    /// Returns the descriptor of a directory.
    fn directory<'l>(
        &self,
        last: &'l mut Last,
        directory: u32,
    ) -> Result<BorrowedFd<'l>, ArchiveError> {
        let opened = match last.take() {
            Some((number, descriptor)) if number == directory => descriptor,
            _ => {
                let path = self.survivors.directory_path(directory);
                open_directory(self.descriptor, &path).map_err(|errno| {
                    let place = &self.survivors.directories[directory as usize].place;
                    self.failed("open", place, errno)
                })?
            }
        };
        let last = last.insert((directory, opened));
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
        let error = explain(self.descriptor, errno.into());
        ArchiveError::io(action, self.shown(place))(error)
    }

    fn shown(&self, place: &Place) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.root
            .join(std::ffi::OsStr::from_bytes(&self.survivors.path(place)))
    }
}
