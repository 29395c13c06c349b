//! Where names lead in the merged tree: found where they stand, made where they are missing, and in
//! layers of images through symbolic links too. Pure; `tree` asks.

use std::sync::Arc;

use super::{
    Dialect, Limits, Rule,
    error::escape,
    nodes::{DirectoryId, NodeId, ROOT, Symlink, What},
    path::{PathError, SafePath},
    reader::Entry,
    tree::Tree,
};

/// Symbolic links that the way to one entry may lead through: as the kernel has it (MAXSYMLINKS).
const LINKS_MAX: usize = 40;
/// Names that it may lead by, those of links' targets with it: an archive of many entries must not
/// take for ever.
const STEPS_MAX: usize = 1024;

/// A directory on the way, with the bytes of the path to it.
type Passed = (DirectoryId, u64);

impl Tree {
    /// Returns the directory at the end of `names`, made where it is missing.
    ///
    /// A file that a lower layer left on the way gives place: this layer says that there is a
    /// directory. A symbolic link does only where this layer also takes it away; following it is
    /// the oldest way out of a tree, and replacing it would pull the files behind it out of
    /// sight. In layers of images it is followed, within the tree.
    pub(super) fn make_directories<'a>(
        &mut self,
        names: impl Iterator<Item = &'a [u8]> + Clone,
        layer: u16,
        entry: &Entry,
        limits: &Limits,
    ) -> Result<DirectoryId, Rule> {
        let mut at = ROOT;
        for name in names.clone() {
            let found = self.what(at, name);
            if let Some((node, What::Directory(directory))) = found {
                self.nodes.node_mut(node).touched = layer;
                at = directory;
                continue;
            }
            let is_link = matches!(found, Some((_, What::Symlink(_))));
            if is_link && self.dialect == Dialect::Image {
                let made = self.follow(names, Some(layer), |_| false, limits)?;
                return Ok(made.expect("what is missing was made"));
            }
            if let Some((node, _)) = found
                && self.nodes.node(node).touched == layer
            {
                let name = escape(name);
                return Err(match is_link {
                    true => Rule::ThroughSymlink(name),
                    false => Rule::ThroughFile(name),
                });
            }
            let (node, directory) = self.new_directory(at, name, layer);
            self.names += 1;
            if is_link {
                self.unconfirmed.insert(node, entry.name.as_slice().into());
            }
            at = directory;
        }
        Ok(at)
    }

    /// Returns the directory at the end of `names` where lower layers have one and the present one
    /// has left it. A link of the present layer that stands in the way, and has replaced a directory
    /// of lower layers, has replaced all that was to be removed from it: umoci writes both. What is
    /// behind the link is not meant.
    pub(super) fn find_lower_directory<'a>(
        &mut self,
        names: impl Iterator<Item = &'a [u8]> + Clone,
        limits: &Limits,
    ) -> Result<Option<DirectoryId>, Rule> {
        let replacing = std::mem::take(&mut self.replacing);
        let found = self.find(names, |link| replacing.contains(&link), limits);
        self.replacing = replacing;
        found
    }

    /// Finds a directory; there is none behind links that count as its end.
    fn find<'a>(
        &mut self,
        names: impl Iterator<Item = &'a [u8]> + Clone,
        ends: impl Fn(NodeId) -> bool,
        limits: &Limits,
    ) -> Result<Option<DirectoryId>, Rule> {
        let mut at = ROOT;
        for name in names.clone() {
            match self.what(at, name) {
                Some((_, What::Directory(directory))) => at = directory,
                Some((link, What::Symlink(_))) if !ends(link) => match self.dialect {
                    Dialect::Own => return Err(Rule::ThroughSymlink(escape(name))),
                    Dialect::Image => return self.follow(names, None, ends, limits),
                },
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Follows names from the root, through symbolic links too, as a process would whose root this
    /// tree is. What is missing is made where there is a layer to make it for.
    fn follow<'a>(
        &mut self,
        names: impl Iterator<Item = &'a [u8]>,
        make: Option<u16>,
        ends: impl Fn(NodeId) -> bool,
        limits: &Limits,
    ) -> Result<Option<DirectoryId>, Rule> {
        let mut ahead: Vec<Box<[u8]>> = names.map(Into::into).collect();
        ahead.reverse();
        let mut way: Vec<Passed> = Vec::new();
        let (mut links, mut steps) = (0, 0);
        while let Some(name) = ahead.pop() {
            steps += 1;
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    way.pop();
                    continue;
                }
                _ => {}
            }
            let (at, bytes) = way.last().copied().unwrap_or((ROOT, 0));
            let found = self.what(at, &name);
            let next = match (found, make) {
                (Some((node, What::Directory(directory))), make) => {
                    if let Some(layer) = make {
                        self.nodes.node_mut(node).touched = layer;
                    }
                    directory
                }
                (Some((link, What::Symlink(symlink))), _) if !ends(link) => {
                    links += 1;
                    if links > LINKS_MAX || steps > STEPS_MAX {
                        return Err(Rule::LinksTooFar(escape(&name)));
                    }
                    let target = Arc::clone(&self.nodes.symlinks[symlink as usize].target);
                    if target.first() == Some(&b'/') {
                        way.clear();
                    }
                    let names = target.split(|byte| *byte == b'/').rev();
                    ahead.extend(names.map(Into::into));
                    continue;
                }
                (_, None) => return Ok(None),
                (Some((node, _)), Some(layer)) if self.nodes.node(node).touched == layer => {
                    return Err(Rule::ThroughFile(escape(&name)));
                }
                (_, Some(layer)) => {
                    self.names += 1;
                    self.new_directory(at, &name, layer).1
                }
            };
            let length = name.len() as u64;
            let bytes = bytes + length + 1;
            way.push((next, bytes));
            // What is behind it has to have room in a path, too.
            if length > limits.component_bytes
                || bytes + limits.component_bytes > limits.name_bytes
                || way.len() as u64 >= limits.depth
            {
                return Err(Rule::LinksTooFar(escape(&name)));
            }
        }
        Ok(Some(way.last().map_or(ROOT, |(directory, _)| *directory)))
    }

    /// Returns what a hard link to `target` is a further name of.
    pub(super) fn link_target(&mut self, target: &[u8], limits: &Limits) -> Result<What, Rule> {
        let missing = || Rule::HardLinkTarget(escape(target));
        let path = SafePath::parse(self.dialect.name(target), limits);
        let path = path.map_err(|error| match error {
            PathError::Rule(Rule::Absolute | Rule::ParentDirectory) => {
                Rule::HardLinkOutside(escape(target))
            }
            PathError::Rule(Rule::EmptyName) => missing(),
            PathError::Rule(rule) => rule,
            PathError::Limit(..) => Rule::TargetTooLong,
        })?;
        let (parents, name) = path.split().ok_or_else(missing)?;
        let parent = self.find(parents, |_| false, limits)?;
        match self.what(parent.ok_or_else(missing)?, name) {
            Some((_, file @ What::File(_))) => Ok(file),
            Some((_, What::Symlink(link))) if self.dialect == Dialect::Image => {
                let Symlink { target, attributes } = &self.nodes.symlinks[link as usize];
                let again = Symlink {
                    target: Arc::clone(target),
                    attributes: *attributes,
                };
                Ok(What::Symlink(self.nodes.new_symlink(again)))
            }
            _ => Err(missing()),
        }
    }
}
