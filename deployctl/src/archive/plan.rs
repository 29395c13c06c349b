//! Reads every layer, several at once, verifies every digest, and merges all headers into one
//! tree in memory. For `unpack`, and for whoever only wants to know what would come out.

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use deploy_spec::Digest;

use super::{
    ArchiveError, AttributePattern, Dialect, Growing, LimitKind, Limits,
    contents::{Contents, PassedOver},
    decode::{Measured, Total},
    growing::LayerFile,
    layer::{Message, OpenLayer, Reading},
    survivors::Survivors,
    threads::parallelism,
    tree::Tree,
};

/// How many messages of a layer wait to be merged. A layer above one that takes long gets so
/// far ahead of it, which bounds the memory that its headers take.
const AHEAD: usize = 64;

/// A layer in a file, with what is promised about it.
#[derive(Clone, Debug)]
pub struct LayerSource {
    /// What messages call it, such as `code:v01`.
    pub name: String,
    /// The archive.
    pub path: PathBuf,
    /// The open archive, where somebody is still writing it; it is read as it comes.
    pub growing: Option<Growing>,
    /// The digest that its bytes must have.
    pub digest: Digest,
    /// The number of bytes that it must have, where that is known.
    pub size: Option<u64>,
    /// The digest that its uncompressed bytes must have, where that is known.
    pub diff_id: Option<Digest>,
    /// How its entries are understood.
    pub dialect: Dialect,
}

/// Opened layers: the very files that were verified are the ones that are unpacked.
pub struct Layers {
    layers: Vec<OpenLayer>,
    stop: Arc<AtomicBool>,
}

/// The tree that some layers make together, verified but not yet on a disk.
pub struct Plan {
    pub(super) survivors: Survivors,
    pub(super) layers: Vec<Measured>,
    /// Entries that are in no tree, since nothing of their kind is.
    pub(super) left_out: u64,
}

impl Layers {
    /// Opens the layers' files, lowest first. `stop` set to true ends whatever is being done
    /// with them at the next entry.
    ///
    /// # Errors
    /// [`ArchiveError::Io`] for a file that cannot be opened.
    pub fn open(sources: &[LayerSource], stop: Arc<AtomicBool>) -> Result<Self, ArchiveError> {
        let open = |source: &LayerSource| {
            let file = match &source.growing {
                Some(growing) => LayerFile::growing(growing),
                None => File::open(&source.path)
                    .map(LayerFile::whole)
                    .map_err(ArchiveError::io("open", &source.path))
                    .map_err(|error| error.in_layer(&source.name))?,
            };
            Ok(OpenLayer::new(source.clone(), file))
        };
        Ok(Self {
            layers: sources.iter().map(open).collect::<Result<_, _>>()?,
            stop,
        })
    }

    /// Reads all layers to their ends and returns the tree that they make: a later layer's
    /// entry replaces an earlier one's whatever either is, a directory over a directory keeps
    /// what is in it, whiteouts remove from lower layers only.
    ///
    /// # Errors
    /// [`ArchiveError::Layer`], naming the layer and within it what is wrong: a size, digest or
    /// diff id that does not agree, a refused entry, a limit that is passed. Of several layers
    /// that are wrong the lowest is named. [`ArchiveError::Interrupted`].
    pub fn plan(&mut self, limits: &Limits) -> Result<Plan, ArchiveError> {
        self.read(limits, &[], || PassedOver)
    }

    /// Plans, and hands the content of all files over; each thread that reads layers takes a
    /// `Contents` of its own. Extended attributes are those that are `allowed`.
    pub(super) fn read<C: Contents>(
        &mut self,
        limits: &Limits,
        allowed: &[AttributePattern],
        contents: impl Fn() -> C + Sync,
    ) -> Result<Plan, ArchiveError> {
        let threads = parallelism().min(self.layers.len());
        let reading = self.reading(limits, allowed);
        let dialects: Vec<_> = self.layers.iter().map(OpenLayer::dialect).collect();
        let (ways, messages): (Vec<_>, Vec<_>) =
            self.layers.iter().map(|_| sync_channel(AHEAD)).unzip();
        let queue = Mutex::new(self.layers.iter_mut().zip(ways).enumerate());
        let merged = thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| read_layers(&queue, &reading, &mut contents()));
            }
            let merged = merge(messages, &dialects, limits);
            // Whoever still reads does it in vain.
            reading.abandoned.store(merged.is_err(), Ordering::Relaxed);
            merged
        });
        merged.map_err(|(index, error)| self.layers[index].explain(error))
    }

    /// Reads one layer once more, after a plan was made, and hands the content of its files over.
    /// It has to have the bytes that it had.
    pub(super) fn read_again(
        &mut self,
        layer: u16,
        limits: &Limits,
        allowed: &[AttributePattern],
        contents: &mut impl Contents,
    ) -> Result<(), ArchiveError> {
        let reading = self.reading(limits, allowed);
        let index = usize::from(layer);
        let layer = &mut self.layers[index];
        match layer.read(index, &reading, contents, |_| Ok(())) {
            Ok(_) => Ok(()),
            // That is no layer's fault.
            Err(error @ ArchiveError::Write(_)) => Err(error),
            Err(error) => Err(layer.explain(error)),
        }
    }

    fn reading(&self, limits: &Limits, allowed: &[AttributePattern]) -> Reading {
        Reading {
            limits: limits.clone(),
            allowed: allowed.to_vec(),
            total: Total::default(),
            stop: Arc::clone(&self.stop),
            abandoned: AtomicBool::new(false),
        }
    }
}

type Queued<'a> = (usize, (&'a mut OpenLayer, SyncSender<Message>));

/// Reads layers, lowest first, as long as there are any that nobody reads.
fn read_layers<'a>(
    queue: &Mutex<impl Iterator<Item = Queued<'a>>>,
    reading: &Reading,
    contents: &mut impl Contents,
) {
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.next()
    };
    while let Some((index, (layer, way))) = next() {
        let end = layer.read(index, reading, contents, |entries| {
            let sent = way.send(Message::Entries(entries));
            sent.map_err(|_| ArchiveError::Interrupted)
        });
        // Nobody listens where a lower layer was refused.
        let _ = way.send(Message::End(Box::new(end)));
    }
}

/// Merges the layers in their order while they are read; returns the first that is wrong.
fn merge(
    layers: Vec<Receiver<Message>>,
    dialects: &[Dialect],
    limits: &Limits,
) -> Result<Plan, (usize, ArchiveError)> {
    let tree = Tree::new();
    let mut merging = Merging { tree, limits };
    let mut measured = Vec::with_capacity(layers.len());
    for (index, (messages, dialect)) in layers.into_iter().zip(dialects).enumerate() {
        merging.tree.dialect = *dialect;
        let layer = merging.layer(index, &messages);
        measured.push(layer.map_err(|error| (index, error))?);
    }
    Ok(Plan {
        left_out: merging.tree.left_out,
        survivors: Survivors::of(merging.tree),
        layers: measured,
    })
}

struct Merging<'a> {
    tree: Tree,
    limits: &'a Limits,
}

impl Merging<'_> {
    fn layer(
        &mut self,
        index: usize,
        messages: &Receiver<Message>,
    ) -> Result<Measured, ArchiveError> {
        let layer = u16::try_from(index).map_err(|_| ArchiveError::Limit {
            entry: format!("layer {index}"),
            limit: LimitKind::Layers,
            maximum: u64::from(u16::MAX),
        })?;
        let mut ordinal = 0;
        // Its reader says how it ended, always.
        while let Ok(message) = messages.recv() {
            let entries = match message {
                Message::Entries(entries) => entries,
                Message::End(end) => {
                    let measured = (*end)?;
                    self.tree.end_layer()?;
                    return Ok(measured);
                }
            };
            for entry in entries {
                self.tree.add(layer, ordinal, entry, self.limits)?;
                ordinal += 1;
            }
        }
        Err(ArchiveError::Interrupted)
    }
}
