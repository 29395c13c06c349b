//! Layers into a directory: read and written in one pass, put together, synced. For the agent
//! and for whoever restores a tree.

use std::{
    collections::HashSet,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use deploy_spec::Digest;
use rustix::fs::{self, Mode};

use super::{
    ArchiveError, AttributePattern, LayerSource, Layers, Limits, Ownership, Plan, SpecialBits,
    TakeOver,
    beneath::DIRECTORY,
    contents::Chosen,
    incoming::{ContentId, Incoming},
    materialise::Materialising,
    metadata::Metadata,
    rules::Rules,
    sandbox::{Walls, confine},
    takeover::Earlier,
    threads::parallelism,
    writers::{Batches, Queue},
};

/// How layers are unpacked.
#[derive(Clone, Debug)]
pub struct UnpackOptions {
    /// The most that the archives may ask for.
    pub limits: Limits,
    /// Whose the files become.
    pub ownership: Ownership,
    /// What becomes of setuid, setgid and sticky bits.
    pub special_bits: SpecialBits,
    /// The extended attributes that are taken over, from the PAX records `SCHILY.xattr.NAME` of
    /// files and directories.
    pub extended_attributes: Vec<AttributePattern>,
    /// A tree of an earlier release on the same file system. What it has under the same name is
    /// taken over; nothing in it is trusted.
    pub earlier: Option<PathBuf>,
    /// How that is done, and with it whether files have write bits.
    pub take_over: TakeOver,
    /// Set to true, it ends the unpacking at the next entry.
    pub stop: Arc<AtomicBool>,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            ownership: Ownership::of_process(),
            special_bits: SpecialBits::Strip,
            extended_attributes: Vec::new(),
            earlier: None,
            take_over: TakeOver::Clone,
            stop: Arc::default(),
        }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Directories below the root.
    pub directories: u64,
    /// Files, each counted once whatever its names.
    pub files: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices and named pipes that are in the layers and not in the tree ([`Dialect::Image`]).
    ///
    /// [`Dialect::Image`]: super::Dialect::Image
    pub left_out: u64,
    /// Bytes in the files.
    pub bytes: u64,
    /// Bytes of that which take no further place, since an earlier tree has them; none in a plan.
    pub taken_over: u64,
    /// Files that are further names of an earlier tree's; none in a plan.
    pub linked: u64,
    /// The diff id that each layer proved to have, lowest first.
    pub diff_ids: Vec<Digest>,
}

impl Plan {
    /// Returns what the plan will make.
    pub fn summary(&self) -> Unpacked {
        let survivors = &self.survivors;
        Unpacked {
            directories: survivors.directories.len() as u64 - 1,
            files: survivors.files.len() as u64,
            hard_links: survivors.links.len() as u64,
            symlinks: survivors.symlinks.len() as u64,
            left_out: self.left_out,
            bytes: survivors.files.iter().map(|file| file.size).sum(),
            taken_over: 0,
            linked: 0,
            diff_ids: self
                .layers
                .iter()
                .map(|layer| layer.diff_id.clone())
                .collect(),
        }
    }
}

/// Unpacks `layers`, lowest first, into the empty directory `root`.
///
/// Several layers are read at once, and each once: while it is read, its digests are computed,
/// its entries checked and merged into one tree, and the content of its files written aside,
/// under names that are none of the archive's. Once every layer has proved to be what it should
/// be, the tree is put together in `root`: what is in it was written once. When it returns, all
/// of it is on stable storage (`syncfs`, no sync a file). After an error `root` may hold a part of the tree
/// and should be removed.
///
/// Where the kernel has Landlock, the threads that do it can reach nothing but what is in `root`
/// and the layers' files, and read the earlier tree. Where somebody writes to a file of that which
/// is being taken over, all is unpacked once more, without it.
///
/// # Errors
/// Those of [`Layers::open`] and [`Layers::plan`]; [`ArchiveError::NotEmpty`];
/// [`ArchiveError::Io`] with the path.
pub fn unpack(
    layers: &[LayerSource],
    root: &Path,
    options: &UnpackOptions,
) -> Result<Unpacked, ArchiveError> {
    let mut layers = Layers::open(layers, Arc::clone(&options.stop))?;
    let directory = fs::open(root, DIRECTORY, Mode::empty())
        .map_err(|errno| ArchiveError::io("open", root)(errno.into()))?;
    let mut entries = std::fs::read_dir(root).map_err(ArchiveError::io("read", root))?;
    if entries.next().is_some() {
        return Err(ArchiveError::NotEmpty(root.to_owned()));
    }
    let mut unpack = |earlier: Option<&Path>| {
        let earlier = earlier.and_then(Earlier::open);
        let work = || unpack_into(&mut layers, directory.as_fd(), root, earlier, options);
        // A thread of its own: there is no way out of the sandbox.
        thread::scope(|scope| scope.spawn(work).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    };
    match unpack(options.earlier.as_deref()) {
        Err(ArchiveError::EarlierChanged) => {
            tracing::warn!(
                "somebody writes to the earlier tree, while it is compared; nothing of it is taken over"
            );
            unpack(None)
        }
        unpacked => unpacked,
    }
}

/// Unpacks into the open directory `descriptor`, which is at `root`, behind walls.
fn unpack_into(
    layers: &mut Layers,
    descriptor: BorrowedFd<'_>,
    root: &Path,
    earlier: Option<Earlier>,
    options: &UnpackOptions,
) -> Result<Unpacked, ArchiveError> {
    let metadata = Metadata::new(Rules::of(options));
    let mut incoming = Incoming::create(descriptor, root, metadata)?;
    if let Some(earlier) = earlier {
        incoming = incoming.taking_over(earlier, options)?;
    }
    confine(&Walls {
        root: descriptor,
        writable: incoming.writable().collect(),
        readable: incoming.earlier().map(Earlier::root),
        take_over: options.take_over,
    });
    let incoming = Arc::new(incoming);
    let received = receive(layers, options, &incoming, descriptor, root, None);
    let incoming = Arc::into_inner(incoming).expect("whoever wrote has ended");
    let plan = match received {
        Ok(plan) => plan,
        Err(error) => {
            // Nothing of what was refused is to stay; the caller learns of the refusal.
            let _ = incoming.remove();
            return Err(error);
        }
    };
    let materialising = Materialising {
        root,
        descriptor,
        survivors: &plan.survivors,
        metadata,
        stop: &options.stop,
    };
    let taken = materialising.run(incoming)?;
    fs::syncfs(descriptor).map_err(|errno| ArchiveError::io("sync", root)(errno.into()))?;
    Ok(Unpacked {
        taken_over: taken.bytes,
        linked: taken.files,
        ..plan.summary()
    })
}

/// Reads all layers, and writes the content of their files; of those that are wanted, where there
/// is a choice.
pub(super) fn receive(
    layers: &mut Layers,
    options: &UnpackOptions,
    incoming: &Arc<Incoming>,
    descriptor: BorrowedFd<'_>,
    root: &Path,
    wanted: Option<&HashSet<ContentId>>,
) -> Result<Plan, ArchiveError> {
    let writers = parallelism();
    let (queue, entrance) = Queue::new(Arc::clone(incoming), writers);
    let flusher = queue.flusher();
    let (plan, flushed) = thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| queue.work());
        }
        let flushing = scope.spawn(|| flusher.work(descriptor));
        let running = flusher.until_dropped();
        let UnpackOptions {
            limits,
            extended_attributes,
            ..
        } = options;
        let plan = layers.read(limits, extended_attributes, move || {
            let inner = Batches::new(entrance.clone());
            Chosen { wanted, inner }
        });
        drop(running);
        let flushed = flushing.join();
        let flushed = flushed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (plan, flushed)
    });
    // What could not be written explains why the reading was given up.
    if let Some(error) = queue.failure() {
        return Err(error);
    }
    let plan = plan?;
    flushed.map_err(|errno| ArchiveError::io("sync", root)(errno.into()))?;
    Ok(plan)
}
