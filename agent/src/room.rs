//! Whether a release fits onto the file systems that it goes to, in bytes and in inodes. Asked by
//! `deployer` before anything is fetched, before anything is unpacked, and while either goes on.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use deploy_spec::{Digest, Release, media_type::Compression};
use deployctl::archive::{Plan, PlannedKind};
use rustix::fs::statvfs;

use crate::error::AgentError;

/// Inodes that stay free: for the agent's own files, and for those of a script.
const INODES_KEPT: u64 = 64;
/// What an archive is taken to grow by where nothing says how large it is unpacked: less than most
/// do, so that nothing is refused that fits.
const LEAST_GROWTH: u64 = 2;
/// What it hardly ever exceeds.
const MOST_GROWTH: u64 = 16;
/// What files take on the disk for each byte in their archive, at the most: one with a single byte
/// has 1 KiB there, and a block of 4 KiB on the disk.
const MOST_ROUNDING: u64 = 4;
/// Bytes of an archive for an inode: file systems are made for files that are four times as large
/// on average.
const BYTES_A_FILE: u64 = 4 << 10;

/// What something takes on a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Bytes of layers that are still to come.
    pub(crate) fetched: u64,
    /// Bytes of the tree.
    pub(crate) unpacked: u64,
    /// Files, directories and symbolic links, as far as they are known.
    pub(crate) inodes: u64,
}

impl Need {
    fn and(self, other: Self) -> Self {
        Self {
            fetched: self.fetched.saturating_add(other.fetched),
            unpacked: self.unpacked.saturating_add(other.unpacked),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }

    fn bytes(self) -> u64 {
        self.fetched.saturating_add(self.unpacked)
    }

    /// Returns the least that the tree of a release takes, as far as its manifest tells.
    pub(crate) fn at_least(release: &Release) -> Self {
        let unpacked = unpacked(release, LEAST_GROWTH);
        let inodes = 1;
        Self {
            unpacked,
            inodes,
            ..Self::default()
        }
    }

    /// Returns more than the tree of nearly every release takes.
    pub(crate) fn at_most(release: &Release) -> Self {
        let unpacked = unpacked(release, MOST_GROWTH);
        Self {
            unpacked: unpacked.saturating_mul(MOST_ROUNDING),
            inodes: unpacked / BYTES_A_FILE,
            ..Self::default()
        }
    }

    /// Returns what a planned tree takes in blocks of this many bytes.
    fn of(plan: &Plan, block: u64) -> Self {
        let mut need = Self::default();
        for entry in plan.entries() {
            let (bytes, inodes) = match entry.kind {
                PlannedKind::File { size } => (size, 1),
                PlannedKind::Directory => (block, 1),
                // A short target stands in the inode itself; a further name is an entry only.
                PlannedKind::Symlink { .. } => (0, 1),
                _ => (0, 0),
            };
            let blocks = bytes.div_ceil(block.max(1)).saturating_mul(block.max(1));
            need.unpacked = need.unpacked.saturating_add(blocks);
            need.inodes += inodes;
        }
        need
    }
}

/// Returns the sum of the unpacked layers; where nothing says how large one is, it grows so much.
fn unpacked(release: &Release, growth: u64) -> u64 {
    let size = |layer: &deploy_spec::ReleaseLayer| {
        layer.unpacked_size.unwrap_or_else(|| {
            let plain = Compression::of_layer(&layer.media_type) == Some(Compression::None);
            layer.size.saturating_mul(if plain { 1 } else { growth })
        })
    };
    (release.layers.iter().map(size)).fold(0, u64::saturating_add)
}

/// A file system, as seen from one of its directories.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Volume {
    path: PathBuf,
    number: u64,
    /// Bytes that this process could still write.
    bytes: u64,
    /// Inodes that are left; nothing where the file system does not count them.
    inodes: Option<u64>,
    block: u64,
}

impl Volume {
    /// Returns the file system of a directory, or of the one that it would be made in.
    fn of(path: &Path) -> Result<Self, AgentError> {
        use std::os::unix::fs::MetadataExt;
        let mut there = path;
        let metadata = loop {
            match fs::metadata(there) {
                Ok(metadata) => break metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => match there.parent() {
                    Some(parent) => there = parent,
                    None => return Err(AgentError::io("read", path)(error)),
                },
                Err(error) => return Err(AgentError::io("read", there)(error)),
            }
        };
        let room = statvfs(there)
            .map_err(|errno| AgentError::io("ask for the free space of", there)(errno.into()))?;
        let block = if room.f_frsize > 0 {
            room.f_frsize
        } else {
            room.f_bsize
        };
        Ok(Self {
            path: path.to_owned(),
            number: metadata.dev(),
            // A file system without any blocks at all is one that does not count them.
            bytes: match room.f_blocks {
                0 => u64::MAX,
                _ => room.f_bavail.saturating_mul(block),
            },
            inodes: (room.f_files > 0).then_some(room.f_favail),
            block,
        })
    }

    fn check(&self, need: Need, reserve: u64) -> Result<(), NoRoom> {
        let short = |lacking, free, wanted| NoRoom {
            path: self.path.clone(),
            release: None,
            lacking,
            free,
            wanted,
            need,
            reserve,
        };
        let wanted = need.bytes().saturating_add(reserve);
        if self.bytes < wanted {
            return Err(short(Lacking::Bytes, self.bytes, wanted));
        }
        // Where nothing is reserved no inode is either: whoever says so wants the last of both.
        let kept = if reserve == 0 { 0 } else { INODES_KEPT };
        let wanted = need.inodes.saturating_add(kept);
        match self.inodes {
            Some(free) if free < wanted => Err(short(Lacking::Inodes, free, wanted)),
            _ => Ok(()),
        }
    }
}

/// The file systems of an agent: those of its cache and of its trees, which may be one.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    cache: Volume,
    trees: Volume,
    reserve: u64,
}

impl Room {
    /// Returns the room that there is now, of which `reserve` bytes stay free.
    ///
    /// # Errors
    /// [`AgentError::Io`] where a directory cannot be reached.
    pub(crate) fn look(cache: &Path, trees: &Path, reserve: u64) -> Result<Self, AgentError> {
        Ok(Self {
            cache: Volume::of(cache)?,
            trees: Volume::of(trees)?,
            reserve,
        })
    }

    /// Whether there is room for what is to come into the cache, and for a tree.
    ///
    /// # Errors
    /// What is lacking, and where.
    pub(crate) fn check(&self, layers: Need, tree: Need) -> Result<(), NoRoom> {
        if self.cache.number == self.trees.number {
            return self.trees.check(layers.and(tree), self.reserve);
        }
        // What is not used now is none of a release's business.
        let check = |volume: &Volume, need| match need == Need::default() {
            true => Ok(()),
            false => volume.check(need, self.reserve),
        };
        check(&self.cache, layers)?;
        check(&self.trees, tree)
    }

    /// Whether the reserve is still untouched: something else may write here too, and what an
    /// archive unpacks to may be more than was said.
    ///
    /// # Errors
    /// What is lacking, and where.
    pub(crate) fn check_reserve(&self) -> Result<(), NoRoom> {
        self.cache.check(Need::default(), self.reserve)?;
        self.trees.check(Need::default(), self.reserve)
    }

    /// Returns what a planned tree takes here.
    pub(crate) fn need_of(&self, plan: &Plan) -> Need {
        Need::of(plan, self.trees.block)
    }
}

/// What a file system has too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacking {
    Bytes,
    Inodes,
}

/// A file system has too little room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    path: PathBuf,
    release: Option<Digest>,
    lacking: Lacking,
    free: u64,
    wanted: u64,
    need: Need,
    reserve: u64,
}

impl NoRoom {
    /// Returns the lack as one of room for this release.
    pub(crate) fn of(self, release: &Digest) -> Self {
        Self {
            release: Some(release.clone()),
            ..self
        }
    }
}

impl std::error::Error for NoRoom {}

impl fmt::Display for NoRoom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("too little room")?;
        if let Some(release) = &self.release {
            write!(formatter, " for release `{release}`")?;
        }
        write!(formatter, " in `{}`: ", self.path.display())?;
        match self.lacking {
            Lacking::Bytes => {
                let (free, wanted) = (Size(self.free), Size(self.wanted));
                write!(formatter, "{free} are free, {wanted} wanted")?;
                let parts = [
                    (self.need.fetched, "to fetch"),
                    (self.need.unpacked, "unpacked"),
                    (self.reserve, "in reserve"),
                ];
                let parts = parts.iter().filter(|(bytes, _)| *bytes > 0);
                let parts: Vec<_> = parts
                    .map(|(bytes, what)| format!("{} {what}", Size(*bytes)))
                    .collect();
                write!(formatter, " ({})", parts.join(", "))?;
            }
            Lacking::Inodes => write!(
                formatter,
                "{} inodes are free, {} wanted",
                self.free, self.wanted
            )?,
        }
        formatter.write_str(
            "\nhint: remove something there, keep fewer old trees (-keep), or reserve less (-reserve)",
        )
    }
}

/// A number of bytes, for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.iter().find(|(bits, _)| self.0 >= 1 << bits) {
            Some((bits, unit)) => {
                let value = self.0 as f64 / (1u64 << bits) as f64;
                write!(formatter, "{value:.1} {unit}")
            }
            None => write!(formatter, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn volume(number: u64, bytes: u64, inodes: Option<u64>) -> Volume {
        Volume {
            path: format!("/volume{number}").into(),
            number,
            bytes,
            inodes,
            block: 4096,
        }
    }

    fn need(fetched: u64, unpacked: u64, inodes: u64) -> Need {
        Need {
            fetched,
            unpacked,
            inodes,
        }
    }

    #[test]
    fn one_file_system_has_to_hold_both_and_two_hold_one_each() {
        let (layers, tree) = (need(30 * MIB, 0, 2), need(0, 60 * MIB, 500));
        let room = |cache, trees| Room {
            cache,
            trees,
            reserve: 10 * MIB,
        };
        let one = |bytes, inodes| {
            let volume = volume(1, bytes, inodes);
            room(volume.clone(), volume).check(layers, tree)
        };
        assert_eq!(one(100 * MIB, None), Ok(()));
        assert_eq!(one(100 * MIB, Some(502 + INODES_KEPT)), Ok(()));
        let error = one(100 * MIB - 1, None).unwrap_err();
        assert_eq!(error.lacking, Lacking::Bytes);
        let error = error.of(&Digest::sha256(b"x")).to_string();
        for part in [
            "for release `sha256:",
            "in `/volume1`: 100.0 MiB are free, 100.0 MiB wanted (30.0 MiB to fetch, 60.0 MiB unpacked, 10.0 MiB in reserve)",
            "hint: ",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = one(100 * MIB, Some(501 + INODES_KEPT)).unwrap_err();
        assert_eq!(error.lacking, Lacking::Inodes);
        assert!(
            error
                .to_string()
                .contains("565 inodes are free, 566 wanted"),
            "{error}"
        );
        let two =
            |cache, trees| room(volume(1, cache, None), volume(2, trees, None)).check(layers, tree);
        assert_eq!(two(40 * MIB, 70 * MIB), Ok(()));
        assert_eq!(
            two(39 * MIB, 70 * MIB).unwrap_err().path,
            Path::new("/volume1")
        );
        assert_eq!(
            two(40 * MIB, 69 * MIB).unwrap_err().path,
            Path::new("/volume2")
        );
        // Nothing is to come: a full cache is no reason to unpack nothing.
        let full = room(volume(1, 0, None), volume(2, 70 * MIB, None));
        assert_eq!(full.check(Need::default(), tree), Ok(()));
    }

    #[test]
    fn nobody_is_surprised_by_large_numbers() {
        let room = Room {
            cache: volume(1, u64::MAX, Some(u64::MAX)),
            trees: volume(1, u64::MAX, Some(u64::MAX)),
            reserve: u64::MAX,
        };
        let all = need(u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(room.check(all, all), Ok(()));
        for (bytes, shown) in [
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (u64::MAX, "17179869184.0 GiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }

    #[test]
    fn room_is_that_of_the_directory_that_is_there() {
        let place = tempfile::tempdir().unwrap();
        let there = Volume::of(place.path()).unwrap();
        let missing = Volume::of(&place.path().join("not/there")).unwrap();
        assert_eq!(there.number, missing.number);
        assert!(there.block > 0);
    }
}
