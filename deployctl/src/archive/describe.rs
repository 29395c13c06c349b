//! Everything that layers say about a tree, the content of its files by its hash: what a tree on
//! a disk, or another release, can be compared with. For `compare`, `changes` and `repair`.

use std::sync::{Arc, Mutex, PoisonError};

use deploy_spec::{Algorithm, Hasher};

use super::{
    ArchiveError, Layers, Plan, UnpackOptions, Unpacked,
    contents::{Contents, NewFile},
    extended::Extended,
    incoming::ContentId,
    reader::TarReader,
    rules::Rules,
    tree::Attributes,
};

/// How much of a file is hashed at once.
const PIECE: usize = 128 << 10;

/// SHA-256 of a file's content.
pub(super) type ContentHash = [u8; 32];

/// The tree that some layers make together, verified, with everything that unpacking would give
/// it. Takes about 100 bytes a file more than a [`Plan`].
pub struct Described {
    pub(super) plan: Plan,
    /// Of the planned files, in their order.
    pub(super) files: Vec<FileFacts>,
    pub(super) rules: Rules,
}

/// What a file has beside its name and size.
#[derive(Debug)]
pub(super) struct FileFacts {
    pub(super) attributes: Attributes,
    pub(super) extended: Extended,
    pub(super) hash: ContentHash,
}

impl Layers {
    /// Reads all layers to their ends, as [`Layers::plan`] does, and hashes the files on the way.
    /// Of `options` everything counts but the flag to stop, which is the layers' own.
    ///
    /// # Errors
    /// Those of [`Layers::plan`].
    pub fn describe(&mut self, options: &UnpackOptions) -> Result<Described, ArchiveError> {
        let known = Arc::default();
        let hashing = || Hashing {
            all: Arc::clone(&known),
            own: Vec::new(),
            buffer: vec![0; PIECE],
        };
        let plan = self.read(&options.limits, &options.extended_attributes, hashing)?;
        let mut known = std::mem::take(&mut *known.lock().unwrap_or_else(PoisonError::into_inner));
        known.sort_unstable_by_key(|(content, _)| *content);
        // Both are in the order of the layers; what was replaced is in one of them only.
        let mut known = known.into_iter();
        let files = plan.survivors.files.iter().map(|file| {
            let facts = known.find(|(content, _)| *content == file.content);
            facts.expect("the content of every file was hashed").1
        });
        Ok(Described {
            files: files.collect(),
            plan,
            rules: Rules::of(options),
        })
    }
}

impl Described {
    /// Returns what unpacking would make.
    pub fn summary(&self) -> Unpacked {
        self.plan.summary()
    }
}

type Known = Vec<(ContentId, FileFacts)>;

/// Hashes the files of one layer after the other.
struct Hashing {
    /// Of all threads.
    all: Arc<Mutex<Known>>,
    own: Known,
    buffer: Vec<u8>,
}

impl Contents for Hashing {
    fn take<R: std::io::Read>(
        &mut self,
        _: &[u8],
        file: NewFile,
        reader: &mut TarReader<R>,
    ) -> Result<(), ArchiveError> {
        let mut hasher = ContentHasher::new();
        loop {
            match reader.read(&mut self.buffer)? {
                0 => break,
                count => hasher.update(&self.buffer[..count]),
            }
        }
        let NewFile {
            content,
            attributes,
            extended,
            ..
        } = file;
        let facts = FileFacts {
            attributes,
            extended,
            hash: hasher.finish(),
        };
        self.own.push((content, facts));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.append(&mut self.own);
        Ok(())
    }
}

/// Hashes the content of a file.
pub(super) struct ContentHasher(Hasher);

impl ContentHasher {
    pub(super) fn new() -> Self {
        Self(Hasher::new(Algorithm::Sha256))
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub(super) fn finish(self) -> ContentHash {
        let mut hash = ContentHash::default();
        let digest = self.0.finish();
        hex::decode_to_slice(digest.hex(), &mut hash).expect("a digest is 64 hexadecimal digits");
        hash
    }
}
