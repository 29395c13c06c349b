//! The merged tree of all layers, in memory. Pure; `plan` feeds it entries, `survivors` reads
//! it out.
//!
//! A file name points to an inode: a hard link goes on naming the content that stood there
//! when it was made, whatever a later entry puts in that place.

use std::collections::BTreeMap;

use super::{
    ArchiveError, Limits, Rule,
    error::escape,
    header::Timestamp,
    incoming::ContentId,
    path::SafePath,
    reader::{Entry, EntryKind},
    whiteout::Whiteout,
};

/// The last second of the year 9999; no file system goes further.
const LATEST_SECOND: i64 = 253_402_300_799;
/// Of a directory that no archive describes.
const IMPLIED_MODE: u32 = 0o755;

pub(super) type NodeId = u32;
pub(super) type InodeId = u32;

/// What a file, link or directory gets beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
}

impl Attributes {
    const IMPLIED: Self = Self {
        mode: IMPLIED_MODE,
        uid: 0,
        gid: 0,
        mtime: Timestamp {
            seconds: 0,
            nanoseconds: 0,
        },
    };
}

/// A file, whatever its names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) content: ContentId,
    pub(super) size: u64,
}

#[derive(Debug)]
pub(super) enum NodeKind {
    Directory {
        children: BTreeMap<Box<[u8]>, NodeId>,
        attributes: Attributes,
    },
    File(InodeId),
    Symlink {
        target: Box<[u8]>,
        attributes: Attributes,
    },
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    /// The last layer that has this name or one below it.
    touched: u16,
    /// The layer whose entry describes this directory; none where no entry does.
    described: Option<u16>,
}

/// The tree that the layers read so far make.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) inodes: Vec<Inode>,
}

pub(super) const ROOT: NodeId = 0;

impl Tree {
    /// Returns the empty tree.
    pub(super) fn new() -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            inodes: Vec::new(),
        };
        tree.push_directory(0);
        tree
    }

    /// Merges the entry in: it replaces what stands under its name, except that a directory
    /// over a directory keeps what is in it. Whiteouts remove what lower layers brought.
    pub(super) fn add(
        &mut self,
        layer: u16,
        ordinal: u32,
        entry: &Entry,
        limits: &Limits,
    ) -> Result<(), ArchiveError> {
        let refused = |rule| ArchiveError::refused(&entry.name, rule);
        let path = SafePath::parse(&entry.name, limits).map_err(|error| error.of(&entry.name))?;
        let attributes = attributes(entry).map_err(refused)?;
        let Some((parents, name)) = path.split() else {
            if entry.kind != EntryKind::Directory {
                return Err(refused(Rule::RootNotDirectory));
            }
            self.describe(ROOT, layer, attributes);
            return Ok(());
        };
        match Whiteout::of(&path, &entry.kind).map_err(refused)? {
            Whiteout::None => {}
            Whiteout::Ignored => return Ok(()),
            Whiteout::Name(name) => {
                if let Some(parent) = self.find_directory(parents).map_err(refused)? {
                    self.remove_lower(parent, name, layer);
                }
                return Ok(());
            }
            Whiteout::Opaque => {
                let directory = self.make_directories(parents, layer).map_err(refused)?;
                self.remove_lower_children(directory, layer);
                return Ok(());
            }
        }
        let kind = match &entry.kind {
            EntryKind::Unsupported(rule) => return Err(refused(rule.clone())),
            EntryKind::Directory => {
                let parent = self.make_directories(parents, layer).map_err(refused)?;
                let directory = match self.child(parent, name) {
                    Some(child) if self.is_directory(child) => child,
                    _ => {
                        let child = self.push_directory(layer);
                        self.insert(parent, name, child);
                        child
                    }
                };
                self.describe(directory, layer, attributes);
                return Ok(());
            }
            EntryKind::File { size } => {
                let inode = self.inodes.len();
                self.inodes.push(Inode {
                    content: ContentId { layer, ordinal },
                    size: *size,
                });
                NodeKind::File(
                    inode
                        .try_into()
                        .expect("the limit of entries is below 2^32"),
                )
            }
            EntryKind::HardLink { target } => {
                NodeKind::File(self.link_target(target, limits).map_err(refused)?)
            }
            EntryKind::Symlink { target } => {
                check_symlink(target, limits).map_err(refused)?;
                NodeKind::Symlink {
                    target: target.as_slice().into(),
                    attributes,
                }
            }
        };
        let parent = self.make_directories(parents, layer).map_err(refused)?;
        let node = self.push(Node {
            kind,
            touched: layer,
            described: None,
        });
        self.insert(parent, name, node);
        Ok(())
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn push(&mut self, node: Node) -> NodeId {
        let id = self.nodes.len();
        self.nodes.push(node);
        id.try_into()
            .expect("the limits of entries and depth keep nodes below 2^32")
    }

    fn push_directory(&mut self, layer: u16) -> NodeId {
        self.push(Node {
            kind: NodeKind::Directory {
                children: BTreeMap::new(),
                attributes: Attributes::IMPLIED,
            },
            touched: layer,
            described: None,
        })
    }

    fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id).kind, NodeKind::Directory { .. })
    }

    fn child(&self, id: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.node(id).kind {
            NodeKind::Directory { children, .. } => children.get(name).copied(),
            _ => None,
        }
    }

    fn insert(&mut self, parent: NodeId, name: &[u8], node: NodeId) {
        if let NodeKind::Directory { children, .. } = &mut self.nodes[parent as usize].kind {
            children.insert(name.into(), node);
        }
    }

    fn describe(&mut self, directory: NodeId, layer: u16, described: Attributes) {
        let node = &mut self.nodes[directory as usize];
        node.touched = layer;
        node.described = Some(layer);
        if let NodeKind::Directory { attributes, .. } = &mut node.kind {
            *attributes = described;
        }
    }

    /// Returns the directory at the end of `names`, made where it is missing.
    ///
    /// A file that a lower layer left on the way gives place: this layer says that there is a
    /// directory. A symbolic link never does; following it is the oldest way out of a tree,
    /// and replacing it would pull the files behind it out of sight.
    fn make_directories<'a>(
        &mut self,
        names: impl Iterator<Item = &'a [u8]>,
        layer: u16,
    ) -> Result<NodeId, Rule> {
        let mut at = ROOT;
        self.nodes[ROOT as usize].touched = layer;
        for name in names {
            let found = match self.child(at, name) {
                Some(child) => match &self.node(child).kind {
                    NodeKind::Directory { .. } => Some(child),
                    NodeKind::Symlink { .. } => return Err(Rule::ThroughSymlink(escape(name))),
                    NodeKind::File(_) if self.node(child).touched == layer => {
                        return Err(Rule::ThroughFile(escape(name)));
                    }
                    NodeKind::File(_) => None,
                },
                None => None,
            };
            at = match found {
                Some(child) => child,
                None => {
                    let child = self.push_directory(layer);
                    self.insert(at, name, child);
                    child
                }
            };
            self.nodes[at as usize].touched = layer;
        }
        Ok(at)
    }

    /// Returns the directory at the end of `names` where there is one.
    fn find_directory<'a>(
        &self,
        names: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<NodeId>, Rule> {
        let mut at = ROOT;
        for name in names {
            let Some(child) = self.child(at, name) else {
                return Ok(None);
            };
            match self.node(child).kind {
                NodeKind::Directory { .. } => at = child,
                NodeKind::Symlink { .. } => return Err(Rule::ThroughSymlink(escape(name))),
                NodeKind::File(_) => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Returns the content that a hard link to `target` names.
    fn link_target(&self, target: &[u8], limits: &Limits) -> Result<InodeId, Rule> {
        let outside = || Rule::HardLinkOutside(escape(target));
        let missing = || Rule::HardLinkTarget(escape(target));
        let path = SafePath::parse(target, limits).map_err(|_| outside())?;
        let (parents, name) = path.split().ok_or_else(missing)?;
        let parent = self.find_directory(parents)?.ok_or_else(missing)?;
        let node = self.child(parent, name).ok_or_else(missing)?;
        match self.node(node).kind {
            NodeKind::File(inode) => Ok(inode),
            _ => Err(missing()),
        }
    }

    /// Takes away what layers below `layer` brought under `name`, wherever in this layer the
    /// whiteout stands.
    fn remove_lower(&mut self, parent: NodeId, name: &[u8], layer: u16) {
        let Some(child) = self.child(parent, name) else {
            return;
        };
        if self.node(child).touched == layer {
            self.remove_lower_children(child, layer);
            let node = &mut self.nodes[child as usize];
            if node.described != Some(layer)
                && let NodeKind::Directory { attributes, .. } = &mut node.kind
            {
                *attributes = Attributes::IMPLIED;
                node.described = None;
            }
        } else if let NodeKind::Directory { children, .. } = &mut self.nodes[parent as usize].kind {
            children.remove(name);
        }
    }

    /// Takes away what layers below `layer` brought into `directory`, at any depth.
    fn remove_lower_children(&mut self, directory: NodeId, layer: u16) {
        let mut open = vec![directory];
        while let Some(id) = open.pop() {
            let NodeKind::Directory { children, .. } = &mut self.nodes[id as usize].kind else {
                continue;
            };
            let mut kept = std::mem::take(children);
            kept.retain(|_, child| self.nodes[*child as usize].touched == layer);
            open.extend(kept.values());
            for child in kept.values() {
                let node = &mut self.nodes[*child as usize];
                if node.described != Some(layer)
                    && let NodeKind::Directory { attributes, .. } = &mut node.kind
                {
                    *attributes = Attributes::IMPLIED;
                    node.described = None;
                }
            }
            if let NodeKind::Directory { children, .. } = &mut self.nodes[id as usize].kind {
                *children = kept;
            }
        }
    }
}

/// Returns what an entry says beside its content, times clamped to what can be set.
pub(super) fn attributes(entry: &Entry) -> Result<Attributes, Rule> {
    // The highest number means "leave it" to chown.
    let owner = |id: u64, what| {
        u32::try_from(id)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or(Rule::BadNumber(what))
    };
    let mtime = match entry.mtime.seconds {
        ..0 => Timestamp::default(),
        seconds if seconds > LATEST_SECOND => Timestamp {
            seconds: LATEST_SECOND,
            nanoseconds: 0,
        },
        _ => entry.mtime,
    };
    Ok(Attributes {
        mode: entry.mode,
        uid: owner(entry.uid, "owner")?,
        gid: owner(entry.gid, "group")?,
        mtime,
    })
}

/// Checks a symbolic link's target: where it leads is its own affair, since nothing here
/// follows it, but it must be possible to make.
fn check_symlink(target: &[u8], limits: &Limits) -> Result<(), Rule> {
    if target.is_empty() {
        return Err(Rule::EmptyTarget);
    }
    if target.contains(&0) {
        return Err(Rule::Nul);
    }
    if target.len() as u64 >= limits.name_bytes {
        return Err(Rule::TargetTooLong);
    }
    Ok(())
}
