//! What can be wrong with an archive, or with the files that go into or come out of one.
//! Everything in `archive` returns it; callers branch on the variants.

use std::{fmt, io, path::PathBuf};

use deploy_spec::Digest;

/// Why packing, inspecting or unpacking failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// A layer is at fault; the source says why.
    #[error("layer `{layer}`")]
    Layer {
        /// What the caller named the layer.
        layer: String,
        /// What is wrong with it.
        #[source]
        source: Box<ArchiveError>,
    },
    /// A file system operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// An extended attribute could not be set.
    #[error(
        "cannot set the extended attribute `{name}` of `{entry}`; the file system has to have such, and the process the right to"
    )]
    Attribute {
        /// Its name, escaped where it is no readable text.
        name: String,
        /// The entry that has it.
        entry: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The archive's bytes could not be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive's bytes could not be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// There are no bytes at all, compressed or not.
    #[error("the file is empty and no tar archive")]
    Empty,
    /// The first bytes are none of a tar archive.
    #[error("not a tar archive (plain, gzip or zstd): {0}")]
    NotATar(String),
    /// The archive ends before it is complete.
    #[error("the archive is cut off after {position} bytes of its content")]
    Truncated {
        /// How many uncompressed bytes there are.
        position: u64,
    },
    /// The archive's content is damaged at some place.
    #[error("the archive is damaged {position} bytes into its content: {reason}")]
    Damaged {
        /// Uncompressed bytes before the damage.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// Something other than padding follows the end of the archive.
    #[error("{count} bytes of something else follow the end of the archive")]
    Trailing {
        /// How many bytes that are not zero.
        count: u64,
    },
    /// An entry breaks a rule of safe unpacking.
    #[error("entry `{entry}` is refused: {rule}")]
    Refused {
        /// The entry's name, escaped where it is no readable text.
        entry: String,
        /// The rule.
        rule: Rule,
    },
    /// A limit is passed.
    #[error("entry `{entry}` passes the limit of {maximum} {limit}")]
    Limit {
        /// The entry at which it happened.
        entry: String,
        /// Which limit.
        limit: LimitKind,
        /// Its value.
        maximum: u64,
    },
    /// The bytes of a layer are not the ones that its digest names.
    #[error("the content has the digest `{found}`, not `{expected}`")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What the bytes have.
        found: Digest,
    },
    /// The uncompressed bytes of a layer are not the ones that its diff id names.
    #[error("the uncompressed content has the digest `{found}`, not the diff id `{expected}`")]
    DiffId {
        /// What was asked for.
        expected: Digest,
        /// What the bytes have.
        found: Digest,
    },
    /// A layer has not the announced number of bytes.
    #[error("the content has {found} bytes, not {expected}")]
    Size {
        /// What was asked for.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// A file changed while it was packed.
    #[error("`{}` changed while it was packed", .0.display())]
    Changed(PathBuf),
    /// A file to pack is a socket, a device or a pipe.
    #[error("`{}` is a {kind}, which no layer can hold", path.display())]
    Special {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Two of the paths to pack bring the same name.
    #[error("`{}` and `{}` would both become `{name}`", first.display(), second.display())]
    Duplicate {
        /// The name inside the archive.
        name: String,
        /// The file that brought it first.
        first: PathBuf,
        /// The file that brings it again.
        second: PathBuf,
    },
    /// A path to pack has no name that an archive could hold.
    #[error("`{}` cannot be packed: {rule}", path.display())]
    Unpackable {
        /// The path.
        path: PathBuf,
        /// The rule that its name breaks.
        rule: Rule,
    },
    /// The directory to unpack into is not empty.
    #[error("`{}` is not an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// A file of an earlier tree was written to while it was compared with a layer's. What could
    /// have been taken over is unpacked instead then, so that callers do not see this.
    #[error("a file of the earlier tree changed while it was compared")]
    EarlierChanged,
    /// The caller asked to stop.
    #[error("unpacking was interrupted")]
    Interrupted,
}

impl ArchiveError {
    /// Returns the operation's error for use with `map_err`.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Returns the refusal of the entry named `entry`.
    pub(super) fn refused(entry: &[u8], rule: Rule) -> Self {
        Self::Refused {
            entry: escape(entry),
            rule,
        }
    }

    /// Returns the error as one of `layer`.
    pub(super) fn in_layer(self, layer: &str) -> Self {
        match self {
            Self::Layer { .. } | Self::Interrupted => self,
            other => Self::Layer {
                layer: layer.to_owned(),
                source: Box::new(other),
            },
        }
    }

    /// Returns the innermost error, whichever layer it is about.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Layer { source, .. } => source.cause(),
            other => other,
        }
    }

    /// Whether it is about the layer that the caller named so.
    pub fn is_of(&self, name: &str) -> bool {
        matches!(self, Self::Layer { layer, .. } if layer == name)
    }

    /// Whether the bytes are not those that were asked for, so that fetching them again helps.
    pub fn is_wrong_content(&self) -> bool {
        matches!(self.cause(), Self::Digest { .. } | Self::Size { .. })
    }

    /// Whether a disk is full, a quota used up, or its inodes are.
    pub fn is_storage_full(&self) -> bool {
        match self.cause() {
            Self::Io { source, .. }
            | Self::Attribute { source, .. }
            | Self::Write(source)
            | Self::Read(source) => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }
}

/// The rules of safe unpacking; each names what an entry does that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The name is empty.
    EmptyName,
    /// The name starts with a slash.
    Absolute,
    /// The name has a `..` in it.
    ParentDirectory,
    /// A name or a link target has a NUL byte in it.
    Nul,
    /// The root of the archive is described as something else than a directory.
    RootNotDirectory,
    /// The way to the entry leads through a symbolic link.
    ThroughSymlink(String),
    /// The way to the entry leads through more symbolic links than the kernel follows, or further
    /// down than a path may.
    LinksTooFar(String),
    /// The way to the entry leads through a file of the same layer.
    ThroughFile(String),
    /// A hard link's target is absolute or has a `..` in it.
    HardLinkOutside(String),
    /// A hard link's target is no regular file that stands before it.
    HardLinkTarget(String),
    /// A symbolic link leads nowhere.
    EmptyTarget,
    /// A symbolic link's target is longer than the kernel takes.
    TargetTooLong,
    /// A device, a pipe.
    Special(&'static str),
    /// A sparse file, in any of its encodings.
    Sparse,
    /// A type that is not known here.
    UnknownType(u8),
    /// A link or a directory that announces content, which readers disagree about.
    UnexpectedContent,
    /// PAX and GNU extensions used together, or one of them twice: what such an entry is
    /// called, and how long it is, depends on who reads it.
    MixedExtensions,
    /// A PAX record that cannot be read.
    BadRecord,
    /// A global PAX header that changes names, sizes or links.
    GlobalRecord(String),
    /// A number that does not fit, or is none.
    BadNumber(&'static str),
    /// A whiteout that would remove upwards, or that is no file.
    BadWhiteout,
    /// The file system holds another file under what it takes for the same name.
    Collision,
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => formatter.write_str("its name is empty"),
            Self::Absolute => formatter.write_str("its name is absolute"),
            Self::ParentDirectory => formatter.write_str("its name has `..` in it"),
            Self::Nul => formatter.write_str("a NUL byte stands in its name or target"),
            Self::RootNotDirectory => formatter.write_str("the root must be a directory"),
            Self::ThroughSymlink(link) => write!(
                formatter,
                "it would be written through the symbolic link `{link}`"
            ),
            Self::LinksTooFar(name) => write!(
                formatter,
                "its way leads through too many symbolic links, or too far down, at `{name}`"
            ),
            Self::ThroughFile(file) => write!(formatter, "`{file}` on its way is no directory"),
            Self::HardLinkOutside(target) => {
                write!(formatter, "it links to `{target}` outside the tree")
            }
            Self::HardLinkTarget(target) => write!(
                formatter,
                "it links to `{target}`, which is no regular file before it"
            ),
            Self::EmptyTarget => formatter.write_str("it is a symbolic link to nothing"),
            Self::TargetTooLong => formatter.write_str("its target is too long"),
            Self::Special(kind) => write!(formatter, "it is a {kind}"),
            Self::Sparse => formatter.write_str("it is a sparse file"),
            Self::UnknownType(kind) => {
                write!(formatter, "its type `{}` is unknown", kind.escape_ascii())
            }
            Self::UnexpectedContent => {
                formatter.write_str("it announces content that its type has not")
            }
            Self::MixedExtensions => formatter.write_str(
                "PAX and GNU headers say what it is, or two of one kind; readers disagree about it",
            ),
            Self::BadRecord => formatter.write_str("its PAX header cannot be read"),
            Self::GlobalRecord(key) => write!(formatter, "a global PAX header sets `{key}`"),
            Self::BadNumber(field) => write!(formatter, "its {field} is no number in range"),
            Self::BadWhiteout => formatter.write_str("it is no whiteout of a name beside it"),
            Self::Collision => {
                formatter.write_str("the file system takes its name for that of another entry")
            }
        }
    }
}

/// The limits that an archive can pass, in the unit that [`super::Limits`] counts them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitKind {
    /// Layers of one tree.
    Layers,
    /// Entries over all layers.
    Entries,
    /// Names in the path of an entry.
    Depth,
    /// Uncompressed bytes over all layers.
    Bytes,
    /// Uncompressed bytes for one compressed.
    Ratio,
    /// Bytes of a whole name or link target.
    NameBytes,
    /// Bytes of one component of a name.
    ComponentBytes,
    /// Bytes of one extension header.
    ExtensionBytes,
    /// Bytes of extended attributes.
    AttributeBytes,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Layers => "layers",
            Self::Entries => "entries",
            Self::Depth => "names in a path",
            Self::Bytes => "unpacked bytes",
            Self::Ratio => "unpacked bytes for one packed",
            Self::NameBytes => "bytes of a name",
            Self::ComponentBytes => "bytes between two slashes",
            Self::ExtensionBytes => "bytes of an extension header",
            Self::AttributeBytes => "bytes of extended attributes",
        })
    }
}

/// The most bytes of a name that a message shows: more would fill the terminal.
const SHOWN: usize = 512;

/// Returns a name for messages: text as it is, everything else escaped, the end of a very long
/// one left out.
pub(super) fn escape(name: &[u8]) -> String {
    match name.get(..SHOWN) {
        Some(beginning) if name.len() > SHOWN => escape_all(beginning) + "…",
        _ => escape_all(name),
    }
}

/// Returns all of a name, however long, in the same way.
pub(super) fn escape_all(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
