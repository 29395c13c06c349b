//! What one described tree has otherwise than another one, name by name. Pure; for whoever shows
//! what a deployment would change.

use std::{cmp::Ordering, ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use super::{
    Described,
    describe::ContentHash,
    extended::{Attribute, Extended, ExtendedAttributes},
    header::Timestamp,
    tree::Attributes,
};

/// A name that two trees do not have alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where, relative to the root; empty for the root itself.
    pub path: PathBuf,
    /// How.
    pub kind: ChangeKind,
    /// What stands there in the later tree; in the earlier one where it is removed.
    pub what: NodeKind,
    /// Bytes of the file in the later tree; 0 where there is no file.
    pub size: u64,
}

/// How a name differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Only the later tree has it.
    Added,
    /// Only the earlier tree has it.
    Removed,
    /// It is of another kind, or has other content, another target, or shares its content with
    /// other names.
    Changed,
    /// Only mode, owner, time or extended attributes are others; of a directory not the time,
    /// which is that of its last change.
    Metadata,
}

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A file, or a further name of one.
    File,
    /// A symbolic link.
    Symlink,
}

/// What stands under a name, with all that can differ.
struct Node<'a> {
    path: Vec<u8>,
    what: What<'a>,
    mode: u32,
    owner: Option<(u32, u32)>,
    mtime: Option<Timestamp>,
    extended: Option<&'a [Attribute]>,
}

#[derive(PartialEq, Eq)]
enum What<'a> {
    Directory,
    File {
        size: u64,
        hash: &'a ContentHash,
        /// The name under which it is written, where that is another one.
        first: Option<Vec<u8>>,
    },
    Symlink(&'a [u8]),
}

impl Described {
    /// Returns what this tree has otherwise than `earlier`, sorted by name from the root down;
    /// without an earlier one everything but the root is added.
    pub fn changes_since(&self, earlier: Option<&Self>) -> Vec<Change> {
        let later = self.nodes();
        let Some(earlier) = earlier else {
            let added = later.iter().filter(|node| !node.path.is_empty());
            return added.map(|node| node.change(ChangeKind::Added)).collect();
        };
        let earlier = earlier.nodes();
        let mut changes = Vec::new();
        let (mut old, mut new) = (earlier.iter().peekable(), later.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return changes,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(old), Some(new)) => old.path.cmp(&new.path),
            };
            let old = (order != Ordering::Greater).then(|| old.next()).flatten();
            let new = (order != Ordering::Less).then(|| new.next()).flatten();
            changes.extend(match (old, new) {
                (Some(old), Some(new)) => new.differs(old).map(|kind| new.change(kind)),
                (None, Some(new)) => Some(new.change(ChangeKind::Added)),
                (Some(old), None) => Some(Change {
                    size: 0,
                    ..old.change(ChangeKind::Removed)
                }),
                (None, None) => None,
            });
        }
    }

    /// Returns everything that the tree has, sorted by name.
    fn nodes(&self) -> Vec<Node<'_>> {
        let survivors = &self.plan.survivors;
        let mut nodes = Vec::new();
        for directory in &survivors.directories {
            let path = survivors.path(&directory.place);
            let extended = Some(&directory.extended);
            nodes.push(self.node(path, What::Directory, &directory.attributes, extended));
        }
        let file = |index: usize| {
            let (file, facts) = (&survivors.files[index], &self.files[index]);
            (file, facts, survivors.path(&file.place))
        };
        for index in 0..survivors.files.len() {
            let (file, facts, path) = file(index);
            let what = What::File {
                size: file.size,
                hash: &facts.hash,
                first: None,
            };
            nodes.push(self.node(path, what, &facts.attributes, Some(&facts.extended)));
        }
        for link in &survivors.links {
            let (file, facts, first) = file(link.file as usize);
            let what = What::File {
                size: file.size,
                hash: &facts.hash,
                first: Some(first),
            };
            let path = survivors.path(&link.place);
            nodes.push(self.node(path, what, &facts.attributes, Some(&facts.extended)));
        }
        for link in &survivors.symlinks {
            let path = survivors.path(&link.place);
            let what = What::Symlink(&link.target);
            nodes.push(self.node(path, what, &link.attributes, None));
        }
        nodes.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        nodes
    }

    fn node<'a>(
        &self,
        path: Vec<u8>,
        what: What<'a>,
        attributes: &Attributes,
        extended: Option<&'a Extended>,
    ) -> Node<'a> {
        let extended = extended.and_then(|extended| extended.as_deref());
        Node {
            path,
            mode: match what {
                What::Directory => self.rules.directory_mode(attributes),
                What::File { .. } => self.rules.file_mode(attributes),
                What::Symlink(_) => 0,
            },
            owner: self.rules.owner(attributes),
            mtime: (what != What::Directory).then_some(attributes.mtime),
            extended: extended.map(ExtendedAttributes::attributes),
            what,
        }
    }
}

impl Node<'_> {
    /// Returns how it differs from the earlier one, if it does.
    fn differs(&self, earlier: &Self) -> Option<ChangeKind> {
        if self.what != earlier.what {
            return Some(ChangeKind::Changed);
        }
        let alike = self.mode == earlier.mode
            && self.owner == earlier.owner
            && self.mtime == earlier.mtime
            && self.extended == earlier.extended;
        (!alike).then_some(ChangeKind::Metadata)
    }

    fn change(&self, kind: ChangeKind) -> Change {
        let (what, size) = match self.what {
            What::Directory => (NodeKind::Directory, 0),
            What::File { size, .. } => (NodeKind::File, size),
            What::Symlink(_) => (NodeKind::Symlink, 0),
        };
        Change {
            path: PathBuf::from(OsString::from_vec(self.path.clone())),
            kind,
            what,
            size,
        }
    }
}
