//! The merged tree of all layers, in memory. Pure; `plan` feeds it entries, `survivors` reads
//! it out, `ways` finds where names lead.
//!
//! A file name points to an inode: a hard link goes on naming the content that stood there
//! when it was made, whatever a later entry puts in that place.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ArchiveError, Dialect, LimitKind, Limits, Rule,
    error::escape,
    header::Timestamp,
    incoming::ContentId,
    nodes::{DirectoryId, Inode, MOST_NAMES, NodeId, Nodes, ROOT, Symlink, What},
    path::SafePath,
    reader::{Entry, EntryKind},
    whiteout::Whiteout,
};

/// The last second of the year 9999; no file system goes further.
const LATEST_SECOND: i64 = 253_402_300_799;
/// The most bytes of extended attributes that all directories have together: they wait in memory
/// until everything else is written.
const DIRECTORY_ATTRIBUTES: u64 = 64 << 20;

/// What a file, link or directory gets beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
}

/// Of a directory that no archive describes.
pub(super) const IMPLIED: Attributes = Attributes {
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: Timestamp {
        seconds: 0,
        nanoseconds: 0,
    },
};

/// The tree that the layers read so far make.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Nodes,
    /// Of the present layer.
    pub(super) dialect: Dialect,
    /// How many devices and named pipes were left out.
    pub(super) left_out: u64,
    /// Entries, and directories that only the names of entries tell of.
    pub(super) names: u64,
    /// Bytes of the directories' extended attributes.
    attribute_bytes: u64,
    /// Symbolic links of lower layers in whose place the present one has a directory, because an
    /// entry goes that way: right only if a whiteout of this layer takes the link away, wherever
    /// it stands. With the entry.
    pub(super) unconfirmed: BTreeMap<NodeId, Box<[u8]>>,
    /// Symbolic links of the present layer in whose place lower layers had a directory.
    pub(super) replacing: BTreeSet<NodeId>,
}

impl Tree {
    /// Returns the empty tree.
    pub(super) fn new() -> Self {
        Self {
            nodes: Nodes::new(),
            dialect: Dialect::Own,
            left_out: 0,
            names: 0,
            attribute_bytes: 0,
            unconfirmed: BTreeMap::new(),
            replacing: BTreeSet::new(),
        }
    }

    /// Merges the entry in: it replaces what stands under its name, except that a directory
    /// over a directory keeps what is in it. Whiteouts remove what lower layers brought.
    pub(super) fn add(
        &mut self,
        layer: u16,
        ordinal: u32,
        entry: Entry,
        limits: &Limits,
    ) -> Result<(), ArchiveError> {
        self.names += 1;
        self.check_names(&entry.name, limits)?;
        self.merge(layer, ordinal, &entry, limits)?;
        self.check_names(&entry.name, limits)
    }

    /// Takes note that all of a layer was merged in.
    pub(super) fn end_layer(&mut self) -> Result<(), ArchiveError> {
        self.replacing.clear();
        match std::mem::take(&mut self.unconfirmed).pop_first() {
            None => Ok(()),
            Some((link, entry)) => {
                let link = escape(&self.nodes.node(link).name);
                Err(ArchiveError::refused(&entry, Rule::ThroughSymlink(link)))
            }
        }
    }

    fn check_names(&self, entry: &[u8], limits: &Limits) -> Result<(), ArchiveError> {
        let maximum = limits.entries.min(MOST_NAMES);
        if self.names <= maximum {
            return Ok(());
        }
        Err(ArchiveError::Limit {
            entry: escape(entry),
            limit: LimitKind::Entries,
            maximum,
        })
    }

    fn merge(
        &mut self,
        layer: u16,
        ordinal: u32,
        entry: &Entry,
        limits: &Limits,
    ) -> Result<(), ArchiveError> {
        let refused = |rule| ArchiveError::refused(&entry.name, rule);
        let name = self.dialect.name(&entry.name);
        let path = SafePath::parse(name, limits).map_err(|error| error.of(&entry.name))?;
        let attributes = attributes(entry).map_err(refused)?;
        let Some((parents, name)) = path.split() else {
            if entry.kind != EntryKind::Directory {
                return Err(refused(Rule::RootNotDirectory));
            }
            return self.describe(ROOT, layer, attributes, entry);
        };
        match Whiteout::of(&path, &entry.kind).map_err(refused)? {
            Whiteout::None => {}
            Whiteout::Ignored => return Ok(()),
            Whiteout::Name(name) => {
                let parent = self.find_lower_directory(parents, limits);
                if let Some(parent) = parent.map_err(refused)? {
                    self.remove_lower(parent, name, layer);
                }
                return Ok(());
            }
            Whiteout::Opaque => {
                let directory = self
                    .make_directories(parents, layer, entry, limits)
                    .map_err(refused)?;
                self.remove_lower_children(directory, layer);
                return Ok(());
            }
        }
        let what = match &entry.kind {
            EntryKind::Unsupported(Rule::Special(_)) if self.dialect == Dialect::Image => {
                self.left_out += 1;
                What::Gap
            }
            EntryKind::Unsupported(rule) => return Err(refused(rule.clone())),
            EntryKind::Directory => {
                let parent = self
                    .make_directories(parents, layer, entry, limits)
                    .map_err(refused)?;
                let directory = match self.what(parent, name) {
                    Some((node, What::Directory(directory))) => {
                        self.nodes.node_mut(node).touched = layer;
                        directory
                    }
                    _ => self.new_directory(parent, name, layer).1,
                };
                return self.describe(directory, layer, attributes, entry);
            }
            EntryKind::File { size } => What::File(self.nodes.new_inode(Inode {
                content: ContentId { layer, ordinal },
                size: *size,
            })),
            EntryKind::HardLink { target } => self.link_target(target, limits).map_err(refused)?,
            EntryKind::Symlink { target } => {
                check_symlink(target, limits).map_err(refused)?;
                What::Symlink(self.nodes.new_symlink(Symlink {
                    target: target.as_slice().into(),
                    attributes,
                }))
            }
        };
        let parent = self
            .make_directories(parents, layer, entry, limits)
            .map_err(refused)?;
        if matches!(what, What::Symlink(_))
            && let Some((node, What::Directory(_))) = self.what(parent, name)
            && self.nodes.node(node).touched != layer
        {
            self.replacing.insert(node);
        }
        self.nodes.put(parent, name, what, layer);
        Ok(())
    }

    /// Returns what stands under `name`.
    pub(super) fn what(&self, directory: DirectoryId, name: &[u8]) -> Option<(NodeId, What)> {
        let child = self.nodes.child(directory, name)?;
        Some((child, self.nodes.node(child).what))
    }

    /// Makes an empty directory stand under `name`.
    pub(super) fn new_directory(
        &mut self,
        parent: DirectoryId,
        name: &[u8],
        layer: u16,
    ) -> (NodeId, DirectoryId) {
        let directory = self.nodes.new_directory();
        let node = self
            .nodes
            .put(parent, name, What::Directory(directory), layer);
        (node, directory)
    }

    fn describe(
        &mut self,
        directory: DirectoryId,
        layer: u16,
        attributes: Attributes,
        entry: &Entry,
    ) -> Result<(), ArchiveError> {
        let extended = entry.extended.clone();
        self.attribute_bytes += extended.as_ref().map_or(0, |extended| extended.bytes());
        if self.attribute_bytes > DIRECTORY_ATTRIBUTES {
            return Err(ArchiveError::Limit {
                entry: escape(&entry.name),
                limit: LimitKind::AttributeBytes,
                maximum: DIRECTORY_ATTRIBUTES,
            });
        }
        let directory = self.nodes.directory_mut(directory);
        directory.described = Some(layer);
        directory.attributes = attributes;
        directory.extended = extended;
        Ok(())
    }

    /// Takes away what layers below `layer` brought under `name`, wherever in this layer the
    /// whiteout stands.
    fn remove_lower(&mut self, parent: DirectoryId, name: &[u8], layer: u16) {
        let Some(child) = self.nodes.child(parent, name) else {
            return;
        };
        if self.keep(child, layer)
            && let What::Directory(directory) = self.nodes.node(child).what
        {
            self.remove_lower_children(directory, layer);
        }
    }

    /// Takes away what layers below `layer` brought into `directory`, at any depth.
    fn remove_lower_children(&mut self, directory: DirectoryId, layer: u16) {
        let mut open = vec![directory];
        while let Some(directory) = open.pop() {
            let children: Vec<_> = self.nodes.children(directory).collect();
            for child in children {
                if self.keep(child, layer)
                    && let What::Directory(directory) = self.nodes.node(child).what
                {
                    open.push(directory);
                }
            }
        }
    }

    /// Takes away from one name what layers below `layer` say of it; returns whether it stays.
    fn keep(&mut self, id: NodeId, layer: u16) -> bool {
        // If it stands in for a lower layer's link, that one is gone now.
        self.unconfirmed.remove(&id);
        let node = self.nodes.node_mut(id);
        if node.touched != layer {
            node.what = What::Gap;
            return false;
        }
        if let What::Directory(directory) = node.what {
            let directory = self.nodes.directory_mut(directory);
            if directory.described != Some(layer) {
                directory.described = None;
                directory.attributes = IMPLIED;
                directory.extended = None;
            }
        }
        true
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
