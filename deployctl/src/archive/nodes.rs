//! The names of a tree, packed so tightly that a host can hold millions: at most 300 bytes each
//! beside the names themselves, whatever shape the tree has. Only `tree` and `survivors` use it.
//!
//! A name that is replaced keeps its place and becomes something else; one that is removed stays
//! as a gap. So nothing here gets smaller, and the limit of entries bounds all of it.

use std::{collections::hash_map::RandomState, hash::BuildHasher, sync::Arc};

use hashbrown::HashTable;

use super::{
    extended::Extended,
    incoming::ContentId,
    tree::{Attributes, IMPLIED},
};

pub(super) type NodeId = u32;
pub(super) type DirectoryId = u32;
pub(super) type InodeId = u32;

/// The directory that is not in any other.
pub(super) const ROOT: DirectoryId = 0;
/// More names than this are not numbered here, whatever limit was asked for.
pub(super) const MOST_NAMES: u64 = 1 << 31;
const NONE: NodeId = NodeId::MAX;

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing any more.
    Gap,
    Directory(DirectoryId),
    File(InodeId),
    /// The number of the link.
    Symlink(u32),
}

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Box<[u8]>,
    parent: DirectoryId,
    /// The one that the directory got before this one.
    before: NodeId,
    pub(super) what: What,
    /// The last layer that has this name or one below it.
    pub(super) touched: u16,
}

#[derive(Debug)]
pub(super) struct Directory {
    /// The name that it got last.
    last: NodeId,
    /// The layer whose entry describes it; none where no entry does.
    pub(super) described: Option<u16>,
    pub(super) attributes: Attributes,
    pub(super) extended: Extended,
}

/// A file, whatever its names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) content: ContentId,
    pub(super) size: u64,
}

#[derive(Debug)]
pub(super) struct Symlink {
    /// Shared by further names of the link.
    pub(super) target: Arc<[u8]>,
    pub(super) attributes: Attributes,
}

/// All names, and what they stand for.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    pub(super) directories: Vec<Directory>,
    pub(super) inodes: Vec<Inode>,
    pub(super) symlinks: Vec<Symlink>,
    /// The nodes by directory and name.
    index: HashTable<NodeId>,
    /// Keyed by chance: nobody can choose names that all fall together.
    hasher: RandomState,
}

impl Nodes {
    /// Returns the names of an empty tree.
    pub(super) fn new() -> Self {
        let mut nodes = Self {
            nodes: Vec::new(),
            directories: Vec::new(),
            inodes: Vec::new(),
            symlinks: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
        };
        nodes.new_directory();
        nodes
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub(super) fn directory_mut(&mut self, id: DirectoryId) -> &mut Directory {
        &mut self.directories[id as usize]
    }

    /// Returns what stands under `name` in `directory`; no gaps.
    pub(super) fn child(&self, directory: DirectoryId, name: &[u8]) -> Option<NodeId> {
        let id = self.find(directory, name)?;
        (self.node(id).what != What::Gap).then_some(id)
    }

    /// Returns what stands in `directory`, the name that came last first.
    pub(super) fn children(&self, directory: DirectoryId) -> impl Iterator<Item = NodeId> {
        let some = |id: NodeId| (id != NONE).then_some(id);
        let last = some(self.directories[directory as usize].last);
        let all = std::iter::successors(last, move |id| some(self.node(*id).before));
        all.filter(|id| self.node(*id).what != What::Gap)
    }

    /// Makes `what` stand under `name`, whatever stood there.
    pub(super) fn put(
        &mut self,
        parent: DirectoryId,
        name: &[u8],
        what: What,
        touched: u16,
    ) -> NodeId {
        if let Some(id) = self.find(parent, name) {
            if let What::Symlink(old) = self.node(id).what {
                self.symlinks[old as usize].target = Arc::default();
            }
            let node = self.node_mut(id);
            (node.what, node.touched) = (what, touched);
            return id;
        }
        let id = number(self.nodes.len());
        let hash = self.hasher.hash_one((parent, name));
        let last = &mut self.directories[parent as usize].last;
        let node = Node {
            name: name.into(),
            parent,
            before: std::mem::replace(last, id),
            what,
            touched,
        };
        push(&mut self.nodes, node);
        let Self {
            nodes,
            index,
            hasher,
            ..
        } = self;
        index.insert_unique(hash, id, |id| {
            let node = &nodes[*id as usize];
            hasher.hash_one((node.parent, &*node.name))
        });
        id
    }

    /// Makes a directory that has no name yet.
    pub(super) fn new_directory(&mut self) -> DirectoryId {
        let directory = Directory {
            last: NONE,
            described: None,
            attributes: IMPLIED,
            extended: None,
        };
        number(push(&mut self.directories, directory))
    }

    /// Makes a file that has no name yet.
    pub(super) fn new_inode(&mut self, inode: Inode) -> InodeId {
        number(push(&mut self.inodes, inode))
    }

    /// Makes a symbolic link that has no name yet.
    pub(super) fn new_symlink(&mut self, symlink: Symlink) -> u32 {
        number(push(&mut self.symlinks, symlink))
    }

    /// Forgets where names are to be found: from now on they are only listed.
    pub(super) fn drop_index(&mut self) {
        self.index = HashTable::new();
    }

    fn find(&self, directory: DirectoryId, name: &[u8]) -> Option<NodeId> {
        let hash = self.hasher.hash_one((directory, name));
        let is_it = |id: &NodeId| {
            let node = self.node(*id);
            node.parent == directory && *node.name == *name
        };
        self.index.find(hash, is_it).copied()
    }
}

/// Appends and returns the index. Unlike the vector's own way it leaves an eighth unused at the
/// most, and not the half.
pub(super) fn push<T>(all: &mut Vec<T>, one: T) -> usize {
    if all.len() == all.capacity() {
        all.reserve_exact((all.len() / 8).max(64));
    }
    all.push(one);
    all.len() - 1
}

/// Returns an index as the number that is kept.
pub(super) fn number(index: usize) -> u32 {
    index
        .try_into()
        .expect("the limit of entries keeps all numbers below 2^32")
}
