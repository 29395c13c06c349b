//! Owner, mode, time and extended attributes of what is unpacked: the system calls. Both that write
//! files and directories call it.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    fs::{self, AtFlags, Gid, Mode, Stat, Timestamps, Uid},
    io::Errno,
};

use super::{
    ArchiveError,
    extended::{Extended, has_only},
    rules::Rules,
    tree::Attributes,
};

/// All that belongs to a mode: who may do what, and the special bits.
pub(super) const MODE_BITS: u32 = 0o7777;
/// Some file systems count time in steps of a hundred nanoseconds, or in seconds.
const STEPS: [i64; 3] = [1, 100, 1_000_000_000];
/// Every file system goes so far, which is to 2038.
const LAST_SURE: i64 = i32::MAX as i64;

/// Sets what an archive says beside names and content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata {
    rules: Rules,
    /// Whose the files are before they are given away, where that is known.
    made_as: Option<(Uid, Gid)>,
    /// Whose they become whatever the archives say, where these have no say.
    all_to: Option<(Uid, Gid)>,
}

impl Metadata {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            made_as: None,
            all_to: None,
        }
    }

    /// Returns it for files that are put beside others of this owner and group: theirs they
    /// become, where the archives have no say.
    pub(super) fn beside(self, uid: u32, gid: u32) -> Self {
        Self {
            all_to: Some((Uid::from_raw(uid), Gid::from_raw(gid))),
            ..self
        }
    }

    /// Returns it for files that are made in `directory`, which this process has just made: they
    /// get the same owner and group, however the file system chooses these.
    pub(super) fn within(self, directory: impl AsFd) -> Result<Self, Errno> {
        let stat = fs::fstat(directory)?;
        Ok(Self {
            made_as: Some((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))),
            ..self
        })
    }

    /// Sets owner, extended attributes, mode and time of a file that this process has just made.
    pub(super) fn set_file(
        &self,
        file: impl AsFd,
        attributes: &Attributes,
        extended: &Extended,
    ) -> Result<(), Unset> {
        let mode = self.rules.file_mode(attributes);
        self.set(file, mode, attributes, extended)
    }

    /// Sets the same of a directory.
    pub(super) fn set_directory(
        &self,
        directory: impl AsFd,
        attributes: &Attributes,
        extended: &Extended,
    ) -> Result<(), Unset> {
        let mode = self.rules.directory_mode(attributes);
        self.set(directory, mode, attributes, extended)
    }

    /// In this order: giving a file away drops its special bits and capabilities, one that may not
    /// be written takes no attributes, and all of it changes the time.
    fn set(
        &self,
        file: impl AsFd,
        mode: u32,
        attributes: &Attributes,
        extended: &Extended,
    ) -> Result<(), Unset> {
        if let Some((uid, gid)) = self.owner(attributes) {
            fs::fchown(&file, Some(uid), Some(gid))?;
        }
        if let Some(extended) = extended {
            extended.set(&file).map_err(Unset::Attribute)?;
        }
        fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(fs::futimens(&file, &times(attributes))?)
    }

    /// Sets owner and time of a symbolic link that this process has just made; it has no mode.
    pub(super) fn set_link(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        attributes: &Attributes,
    ) -> Result<(), Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.owner(attributes) {
            fs::chownat(directory, name, Some(uid), Some(gid), flags)?;
        }
        fs::utimensat(directory, name, &times(attributes), flags)
    }

    /// Whether a file that was not made just now is what [`Metadata::set_file`] would make of one,
    /// in every right that it has and gives.
    pub(super) fn is_set(
        &self,
        (stat, file): (&Stat, impl AsFd),
        attributes: &Attributes,
        extended: &Extended,
    ) -> Result<bool, Errno> {
        let owner = self.wanted_owner(attributes).or(self.made_as);
        let found = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let is_set = stat.st_mode & MODE_BITS == self.rules.file_mode(attributes)
            && owner == Some(found)
            && has_time(stat, attributes);
        Ok(is_set && has_only(file, extended)?)
    }

    /// Returns whom to give it to, unless that is who has it.
    fn owner(&self, attributes: &Attributes) -> Option<(Uid, Gid)> {
        let owner = self.wanted_owner(attributes)?;
        (self.made_as != Some(owner)).then_some(owner)
    }

    fn wanted_owner(&self, attributes: &Attributes) -> Option<(Uid, Gid)> {
        match self.rules.owner(attributes) {
            Some((uid, gid)) => Some((Uid::from_raw(uid), Gid::from_raw(gid))),
            None => self.all_to,
        }
    }
}

/// What could not be set.
pub(super) enum Unset {
    /// Owner, mode or time.
    System(Errno),
    /// An extended attribute, which the error names.
    Attribute(ArchiveError),
}

impl From<Errno> for Unset {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl Unset {
    /// Returns the error, with the words of the caller where it knows better.
    pub(super) fn into_error(self, of: impl FnOnce(Errno) -> ArchiveError) -> ArchiveError {
        match self {
            Self::System(errno) => of(errno),
            Self::Attribute(error) => error,
        }
    }
}

/// Access and modification time are one: when the file was last read is nobody's news.
fn times(attributes: &Attributes) -> Timestamps {
    let time = attributes.mtime.to_timespec();
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Whether a file has the time that was set, as far as its file system can tell.
pub(super) fn has_time(stat: &Stat, attributes: &Attributes) -> bool {
    let expected = attributes.mtime.to_timespec();
    let (seconds, nanoseconds) = (i128::from(stat.st_mtime), i128::from(stat.st_mtime_nsec));
    let wanted = expected.tv_nsec;
    // What lies beyond is brought to the last time that a file system has, each its own.
    if expected.tv_sec > LAST_SURE && (LAST_SURE..expected.tv_sec).contains(&stat.st_mtime) {
        return true;
    }
    let steps = STEPS.map(|step| i128::from(wanted / step * step));
    seconds == i128::from(expected.tv_sec) && steps.contains(&nanoseconds)
}
