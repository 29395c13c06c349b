//! Who may do what. Until people and services have keys, everybody who reaches the port may
//! do everything; every question that keys will answer is asked here already.

/// What the operator allows without keys (`--anonymous`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody may read and write everything.
    AnonymousWrite,
    /// Everybody may read everything, and nobody writes (`--read-only`).
    ReadOnly,
}

impl Access {
    /// Returns whether a blob may be mounted from a repository that the client did not name:
    /// that needs the right to read all of them.
    pub(crate) fn may_mount_from_anywhere(self) -> bool {
        match self {
            Self::AnonymousWrite | Self::ReadOnly => true,
        }
    }

    /// Returns whether requests that change something are taken.
    pub(crate) fn may_write(self) -> bool {
        match self {
            Self::AnonymousWrite => true,
            Self::ReadOnly => false,
        }
    }
}
