//! What becomes of an archive's owners and modes, by the options. Pure; for whatever unpacks,
//! compares and restores.

use super::{TakeOver, UnpackOptions, tree::Attributes};

/// Read, write, execute of owner, group and others.
const PERMISSION_BITS: u32 = 0o777;
/// What a file has none of that two trees may share.
const WRITE_BITS: u32 = 0o222;

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

/// Which of an archive's numbers are taken over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    ownership: Ownership,
    special_bits: SpecialBits,
    take_over: TakeOver,
}

impl Rules {
    pub(super) fn of(options: &UnpackOptions) -> Self {
        Self {
            ownership: options.ownership,
            special_bits: options.special_bits,
            take_over: options.take_over,
        }
    }

    /// Returns the mode that a file gets.
    pub(super) fn file_mode(self, attributes: &Attributes) -> u32 {
        let mode = self.directory_mode(attributes);
        match self.take_over {
            TakeOver::Clone => mode,
            TakeOver::Link => mode & !WRITE_BITS,
        }
    }

    /// Returns the mode that a directory gets. Two trees never share one: scripts may go on to put
    /// things there, and files of the tree can be replaced.
    pub(super) fn directory_mode(self, attributes: &Attributes) -> u32 {
        match self.special_bits {
            SpecialBits::Strip => attributes.mode & PERMISSION_BITS,
            SpecialBits::Keep => attributes.mode,
        }
    }

    /// Returns the owner and group that the archive has a say in.
    pub(super) fn owner(self, attributes: &Attributes) -> Option<(u32, u32)> {
        (self.ownership == Ownership::Archive).then_some((attributes.uid, attributes.gid))
    }
}
