//! Pieces of a large file that an earlier tree has: they agree in any order, or become a file of
//! their own that holds the archive's bytes.

use std::{
    fs::{self, File, Permissions},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::PathBuf,
};

use super::{
    super::{
        contents::NewFile,
        flusher::Flusher,
        header::Timestamp,
        incoming::{ContentId, Incoming},
        large::LargeFile,
        metadata::Metadata,
        rules::Rules,
        takeover::Earlier,
        tree::Attributes,
    },
    linked::{LARGE, are_one, but, content, edit, linking},
    *,
};

/// A file of 3 pieces that an earlier tree has, on its way.
struct Large {
    place: Place,
    earlier: PathBuf,
    incoming: Incoming,
    file: LargeFile,
}

const PIECE: usize = LARGE / 3;

impl Large {
    fn begin(clones: bool) -> Self {
        let place = Place::new();
        let earlier = place.path().join("earlier");
        fs::create_dir(&earlier).unwrap();
        let path = earlier.join("large");
        fs::write(&path, content(LARGE)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        let found = fs::metadata(&path).unwrap();
        let new = NewFile {
            content: ContentId {
                layer: 0,
                ordinal: 0,
            },
            size: LARGE as u64,
            attributes: Attributes {
                mode: 0o644,
                uid: found.uid(),
                gid: found.gid(),
                mtime: Timestamp {
                    seconds: found.mtime(),
                    nanoseconds: u32::try_from(found.mtime_nsec()).unwrap(),
                },
            },
            extended: None,
        };
        let root = File::open(place.root()).unwrap();
        let metadata = Metadata::new(Rules::of(&linking()));
        let incoming = Incoming::create(root.as_fd(), &place.root(), metadata).unwrap();
        let tree = match clones {
            true => Earlier::copying(&earlier),
            false => Earlier::without_clones(&earlier),
        };
        let incoming = incoming.taking_over(tree, &linking()).unwrap();
        let file = LargeFile::begin(&incoming, b"large", new).unwrap();
        Self {
            place,
            earlier: path,
            incoming,
            file,
        }
    }

    fn take(&self, bytes: &[u8], piece: usize) -> Result<(), ArchiveError> {
        let range = piece * PIECE..if piece == 2 {
            LARGE
        } else {
            (piece + 1) * PIECE
        };
        let offset = range.start as u64;
        let flusher = Flusher::default();
        (self.file).take(&bytes[range], offset, &self.incoming, &flusher)
    }

    /// Returns the files that there are now, and whether each is the earlier tree's.
    fn found(&self) -> Vec<(Vec<u8>, bool)> {
        let found = |path: PathBuf| (fs::read(&path).unwrap(), are_one(&path, &self.earlier));
        { fs::read_dir(self.place.root()).unwrap() }
            .flat_map(|incoming| fs::read_dir(incoming.unwrap().path()).unwrap())
            .flat_map(|directory| fs::read_dir(directory.unwrap().path()).unwrap())
            .map(|file| found(file.unwrap().path()))
            .collect()
    }
}

#[test]
fn pieces_agree_in_any_order_or_become_a_file_of_their_own() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        for clones in [false, true] {
            let large = Large::begin(clones);
            for piece in order {
                large.take(&content(LARGE), piece).unwrap();
            }
            assert!(large.found() == [(content(LARGE), true)]);
            for at in [0, PIECE - 1, PIECE, LARGE - 1] {
                let large = Large::begin(clones);
                let bytes = but(LARGE, at);
                for piece in order {
                    large.take(&bytes, piece).unwrap();
                }
                assert!(large.found() == [(bytes, false)], "{at} {order:?} {clones}");
                assert!(fs::read(&large.earlier).unwrap() == content(LARGE));
            }
        }
    }
}

#[test]
fn what_changes_behind_the_comparison_is_noticed_before_it_is_copied() {
    for clones in [false, true] {
        for last in [content(LARGE), but(LARGE, LARGE - 1)] {
            let large = Large::begin(clones);
            large.take(&content(LARGE), 0).unwrap();
            large.take(&content(LARGE), 1).unwrap();
            // Another inode is none that was looked at; the one that was holds other bytes by now.
            let beside = large.earlier.with_file_name("beside");
            fs::rename(&large.earlier, &beside).unwrap();
            fs::write(&large.earlier, content(LARGE)).unwrap();
            edit(&beside, 5);
            let error = large.take(&last, 2).unwrap_err();
            assert!(matches!(error, ArchiveError::EarlierChanged), "{error}");
            // Whoever has a further piece says nothing else.
            large.take(&content(LARGE), 0).unwrap();
            assert!(large.found().iter().all(|(_, is_earlier)| !is_earlier));
        }
    }
}

#[test]
fn file_that_cannot_have_a_further_name_is_copied_and_proved() {
    for clones in [false, true] {
        let large = Large::begin(clones);
        large.take(&content(LARGE), 0).unwrap();
        large.take(&content(LARGE), 1).unwrap();
        fs::remove_file(&large.earlier).unwrap();
        fs::write(&large.earlier, "another").unwrap();
        large.take(&content(LARGE), 2).unwrap();
        assert!(large.found() == [(content(LARGE), false)]);
    }
}
