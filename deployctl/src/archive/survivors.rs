//! What is left of the merged tree, in the order in which it is written. Pure; `plan` makes
//! it, `materialise` writes it.

use super::{
    header::Timestamp,
    incoming::ContentId,
    tree::{Attributes, Inode, InodeId, NodeKind, ROOT, Tree},
};

/// Everything to write, each name once.
#[derive(Debug)]
pub(super) struct Survivors {
    /// Parents before children; the root is the first and its own parent.
    pub(super) directories: Vec<Directory>,
    /// In the order in which the layers bring them.
    pub(super) files: Vec<PlannedFile>,
    pub(super) links: Vec<HardLink>,
    pub(super) symlinks: Vec<Symlink>,
}

/// Where something stands: the index of its directory, and its name in there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) directory: u32,
    pub(super) name: Box<[u8]>,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) place: Place,
    pub(super) attributes: Attributes,
}

#[derive(Debug)]
pub(super) struct PlannedFile {
    pub(super) content: ContentId,
    pub(super) size: u64,
    pub(super) place: Place,
}

/// A further name of a file.
#[derive(Debug)]
pub(super) struct HardLink {
    /// Index of the file among the planned ones.
    pub(super) file: u32,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) struct Symlink {
    pub(super) place: Place,
    pub(super) target: Box<[u8]>,
    pub(super) attributes: Attributes,
}

impl Survivors {
    /// Returns what `tree` holds. Of several names of one file the first, bytewise from the
    /// root down, is the one that is written.
    pub(super) fn of(mut tree: Tree) -> Self {
        let mut found = Self {
            directories: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            symlinks: Vec::new(),
        };
        let mut links: Vec<(InodeId, Place)> = Vec::new();
        let mut written = vec![false; tree.inodes.len()];
        let mut origin: Vec<InodeId> = Vec::new();
        let mut open = vec![(
            ROOT,
            Place {
                directory: 0,
                name: Box::default(),
            },
        )];
        while let Some((id, place)) = open.pop() {
            let placeholder = NodeKind::File(0);
            match std::mem::replace(&mut tree.nodes[id as usize].kind, placeholder) {
                NodeKind::Directory {
                    children,
                    attributes,
                } => {
                    let directory = index(found.directories.len());
                    found.directories.push(Directory { place, attributes });
                    // The last pushed is the first popped.
                    let children = children.into_iter().rev();
                    open.extend(children.map(|(name, child)| (child, Place { directory, name })));
                }
                NodeKind::File(inode) if written[inode as usize] => links.push((inode, place)),
                NodeKind::File(inode) => {
                    written[inode as usize] = true;
                    origin.push(inode);
                    let Inode { content, size, .. } = tree.inodes[inode as usize];
                    found.files.push(PlannedFile {
                        content,
                        size,
                        place,
                    });
                }
                NodeKind::Symlink { target, attributes } => {
                    found.symlinks.push(Symlink {
                        place,
                        target,
                        attributes,
                    });
                }
            }
        }
        // Inodes are numbered as the layers bring them.
        found.files.sort_unstable_by_key(|file| file.content);
        origin.sort_unstable();
        let file_of = |inode: InodeId| {
            index(
                origin
                    .binary_search(&inode)
                    .expect("a linked file is written under its first name"),
            )
        };
        found.links = links
            .into_iter()
            .map(|(inode, place)| HardLink {
                file: file_of(inode),
                place,
            })
            .collect();
        found
    }

    /// Returns the path of a directory from the root, without a slash at either end.
    pub(super) fn directory_path(&self, mut directory: u32) -> Vec<u8> {
        let mut names = Vec::new();
        while directory != 0 {
            let place = &self.directories[directory as usize].place;
            names.push(&*place.name);
            directory = place.directory;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Returns the path of something in a directory.
    pub(super) fn path(&self, place: &Place) -> Vec<u8> {
        let mut path = self.directory_path(place.directory);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&place.name);
        path
    }

    /// Returns one line for each name, for tests and comparisons.
    #[cfg(test)]
    pub(super) fn lines(&self) -> Vec<String> {
        use super::error::escape;
        let mut lines: Vec<String> = Vec::new();
        for (index, directory) in self.directories.iter().enumerate() {
            let path = self.directory_path(u32::try_from(index).unwrap());
            lines.push(format!(
                "{}/ {:o}",
                escape(&path),
                directory.attributes.mode
            ));
        }
        for file in &self.files {
            lines.push(format!(
                "{} = {}.{}",
                escape(&self.path(&file.place)),
                file.content.layer,
                file.content.ordinal
            ));
        }
        for link in &self.links {
            let file = &self.files[link.file as usize];
            lines.push(format!(
                "{} = {}.{}",
                escape(&self.path(&link.place)),
                file.content.layer,
                file.content.ordinal
            ));
        }
        for link in &self.symlinks {
            lines.push(format!(
                "{} -> {}",
                escape(&self.path(&link.place)),
                escape(&link.target)
            ));
        }
        lines.sort();
        lines
    }
}

impl Timestamp {
    /// Returns the time as the system calls take it.
    pub(super) fn to_timespec(self) -> rustix::fs::Timespec {
        rustix::fs::Timespec {
            tv_sec: self.seconds,
            tv_nsec: self.nanoseconds.into(),
        }
    }
}

fn index(position: usize) -> u32 {
    position
        .try_into()
        .expect("the limits of entries and depth keep this below 2^32")
}
