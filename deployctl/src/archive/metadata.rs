//! Owner, mode, time and extended attributes of what is unpacked: which of an archive's numbers are taken over, and
//! the system calls. Both that write files and directories call it.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    fs::{self, AtFlags, Gid, Mode, Timestamps, Uid},
    io::Errno,
};

use super::{ArchiveError, extended::Extended, tree::Attributes};

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

/// Sets what an archive says beside names and content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata {
    ownership: Ownership,
    special_bits: SpecialBits,
    /// Whose the files are before they are given away, where that is known.
    made_as: Option<(Uid, Gid)>,
    /// Whose they become whatever the archives say, where these have no say.
    all_to: Option<(Uid, Gid)>,
}

/// Returns the mode that an archive's becomes.
pub(super) fn mode_of(special_bits: SpecialBits, attributes: &Attributes) -> u32 {
    match special_bits {
        SpecialBits::Strip => attributes.mode & PERMISSION_BITS,
        SpecialBits::Keep => attributes.mode,
    }
}

impl Metadata {
    pub(super) fn new(ownership: Ownership, special_bits: SpecialBits) -> Self {
        Self {
            ownership,
            special_bits,
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

    /// Sets owner, extended attributes, mode and time of a file or directory that this process has
    /// just made. In this order: giving a file away drops its special bits and capabilities, one
    /// that may not be written takes no attributes, and all of it changes the time.
    pub(super) fn set(
        &self,
        file: impl AsFd,
        attributes: &Attributes,
        extended: &Extended,
    ) -> Result<(), Unset> {
        if let Some((uid, gid)) = self.owner(attributes) {
            fs::fchown(&file, Some(uid), Some(gid))?;
        }
        if let Some(extended) = extended {
            extended.set(&file).map_err(Unset::Attribute)?;
        }
        let mode = mode_of(self.special_bits, attributes);
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

    /// Returns whom to give it to, unless that is who has it.
    fn owner(&self, attributes: &Attributes) -> Option<(Uid, Gid)> {
        let owner = match self.ownership {
            Ownership::Archive => (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid)),
            Ownership::Process => self.all_to?,
        };
        (self.made_as != Some(owner)).then_some(owner)
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
