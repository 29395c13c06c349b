//! What is left of the merged tree, in the order in which it is written. Pure; `plan` makes
//! it, `materialise` writes it.

use std::sync::Arc;

use super::{
    extended::Extended,
    header::Timestamp,
    incoming::ContentId,
    nodes::{DirectoryId, Inode, InodeId, NodeId, Nodes, ROOT, What, number, push},
    tree::{Attributes, Tree},
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
    pub(super) extended: Extended,
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
    pub(super) target: Arc<[u8]>,
    pub(super) attributes: Attributes,
}

impl Survivors {
    /// Returns what `tree` holds. Of several names of one file the first, bytewise from the
    /// root down, is the one that is written.
    pub(super) fn of(tree: Tree) -> Self {
        let mut nodes = tree.nodes;
        nodes.drop_index();
        let mut found = Self {
            directories: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            symlinks: Vec::new(),
        };
        let mut written = vec![false; nodes.inodes.len()];
        let mut origin: Vec<InodeId> = Vec::new();
        // The names to go through, each with the index of its directory among the survivors.
        let mut open: Vec<(NodeId, u32)> = Vec::new();
        let root = Place {
            directory: 0,
            name: Box::default(),
        };
        found.enter(&mut nodes, ROOT, root, &mut open);
        while let Some((id, directory)) = open.pop() {
            let node = nodes.node_mut(id);
            let what = node.what;
            let place = Place {
                directory,
                name: std::mem::take(&mut node.name),
            };
            match what {
                What::Gap => {}
                What::Directory(directory) => found.enter(&mut nodes, directory, place, &mut open),
                What::File(inode) if written[inode as usize] => {
                    // The file's index is not known before all are sorted.
                    push(&mut found.links, HardLink { file: inode, place });
                }
                What::File(inode) => {
                    written[inode as usize] = true;
                    push(&mut origin, inode);
                    let Inode { content, size } = nodes.inodes[inode as usize];
                    let file = PlannedFile {
                        content,
                        size,
                        place,
                    };
                    push(&mut found.files, file);
                }
                What::Symlink(link) => {
                    let link = &mut nodes.symlinks[link as usize];
                    let link = Symlink {
                        place,
                        target: std::mem::take(&mut link.target),
                        attributes: link.attributes,
                    };
                    push(&mut found.symlinks, link);
                }
            }
        }
        // Inodes are numbered as the layers bring them.
        found.files.sort_unstable_by_key(|file| file.content);
        origin.sort_unstable();
        for link in &mut found.links {
            let file = origin.binary_search(&link.file);
            link.file = number(file.expect("a linked file is written under its first name"));
        }
        found
    }

    /// Notes down a directory, and puts what is in it before everything else that is open.
    fn enter(
        &mut self,
        nodes: &mut Nodes,
        id: DirectoryId,
        place: Place,
        open: &mut Vec<(NodeId, u32)>,
    ) {
        let first = open.len();
        let directory = nodes.directory_mut(id);
        let (attributes, extended) = (directory.attributes, directory.extended.take());
        let index = number(push(
            &mut self.directories,
            Directory {
                place,
                attributes,
                extended,
            },
        ));
        for child in nodes.children(id) {
            push(open, (child, index));
        }
        // The last pushed is the first popped.
        open[first..].sort_unstable_by(|(one, _), (other, _)| {
            nodes.node(*other).name.cmp(&nodes.node(*one).name)
        });
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
