//! What a start does before anything is written: a directory whose journal says what may not have
//! reached its place is brought to the state that was acknowledged. Used by [`super::writer`]
//! alone.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use super::{
    JOURNAL,
    files::Tree,
    journal::{Change, Journal},
};

/// Does what the journal in the directory says, brings it to stable storage, and returns the
/// journal, which speaks of nothing then. Repeated after a crash in its middle, it does the same.
pub(super) fn recover(tree: &Tree) -> io::Result<Journal> {
    let directory = tree.root.join(JOURNAL);
    let foreign = !directory.exists() && holds_something(&tree.root)?;
    let (mut journal, changes) = Journal::open(&directory)?;
    if foreign {
        // Somebody copied it here: what is visible must be durable.
        sync_all(&File::open(&tree.root)?)?;
    }
    if !changes.is_empty() {
        tracing::info!(
            changes = changes.len(),
            "doing again what may not have reached the disk"
        );
        for change in changes {
            redo(tree, change)?;
        }
        sync_all(&File::open(&tree.root)?)?;
        journal.clear()?;
    }
    Ok(journal)
}

/// Brings everything on the file system of `root` to stable storage.
pub(super) fn sync_all(root: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(root)?)
}

/// Does a change again.
fn redo(tree: &Tree, change: Change) -> io::Result<()> {
    match change {
        Change::Put {
            key,
            modified,
            bytes,
        } => {
            // Where only the process died, all of it is there, and making files takes longer.
            if tree.holds(&key, modified, &bytes)? {
                return Ok(());
            }
            let staged = tree.stage(modified, &bytes)?;
            tree.move_in(staged, &key).map(drop)
        }
        Change::Remove { key } => tree.remove(&key),
        Change::Void { .. } => Ok(()),
    }
}

/// Returns whether there are objects.
fn holds_something(root: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(root)? {
        if !entry?.file_name().as_encoded_bytes().starts_with(b".") {
            return Ok(true);
        }
    }
    Ok(false)
}
