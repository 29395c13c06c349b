//! A large file, whose pieces are seen to by whoever gets to them: they are written, or stand there
//! already since the file is a clone, or nothing is written at all since an earlier tree has the
//! file. `writers` calls it.
//!
//! In the last case nothing but the comparison shows, piece by piece and in whatever order, that it
//! is the file; and when one piece differs, those before it are gone. They are read once more from
//! the earlier tree's file then. Somebody may have written to it since, so of each piece that agreed
//! its hash is kept (48 bytes for 256 KiB), and what does not have it any more ends the unpacking,
//! which is begun again without an earlier tree. So what lands in a file are the archive's bytes.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    ArchiveError,
    contents::NewFile,
    describe::{ContentHash, ContentHasher},
    flusher::Flusher,
    incoming::Incoming,
    linking::Candidate,
    takeover::{self, Last},
};

/// A file of which pieces come.
pub(super) struct LargeFile {
    new: NewFile,
    /// Bytes that are still to be seen to.
    missing: AtomicU64,
    target: Mutex<Target>,
}

/// Where the content is.
enum Target {
    Own(Arc<OwnFile>),
    Earlier(Comparing),
    /// Nowhere: whoever met with the reason tells it.
    Failed,
}

struct OwnFile {
    file: File,
    /// Whether it is a clone that has proved to be right so far.
    cloned: AtomicBool,
}

/// An earlier tree's file that has proved to be right so far.
struct Comparing {
    candidate: Arc<Candidate>,
    agreed: Vec<Agreed>,
}

struct Agreed {
    offset: u64,
    length: u32,
    hash: ContentHash,
}

impl LargeFile {
    /// Returns the file for an entry of this name.
    pub(super) fn begin(
        incoming: &Incoming,
        name: &[u8],
        new: NewFile,
    ) -> Result<Self, ArchiveError> {
        let target = match incoming.candidate(name, &new, &mut Last::default()) {
            Some(candidate) => Target::Earlier(Comparing {
                candidate: Arc::new(candidate),
                agreed: Vec::new(),
            }),
            None => {
                let file = incoming.open(new.content)?;
                let earlier = incoming.earlier();
                let cloned = earlier.is_some_and(|one| one.clone_to(&file, name, new.size));
                Target::Own(OwnFile::new(file, cloned))
            }
        };
        Ok(Self {
            missing: AtomicU64::new(new.size),
            new,
            target: Mutex::new(target),
        })
    }

    /// Sees to the bytes at an offset; behind the last ones, to what the file has beside them.
    pub(super) fn take(
        &self,
        bytes: &[u8],
        offset: u64,
        incoming: &Incoming,
        flusher: &Flusher,
    ) -> Result<(), ArchiveError> {
        let length = bytes.len() as u64;
        if let Some(own) = self.own(bytes, offset, incoming, flusher)? {
            match incoming.earlier() {
                Some(earlier) if own.has(bytes, offset) => earlier.took_over(length),
                _ => {
                    let written = own.file.write_all_at(bytes, offset);
                    written.map_err(|error| incoming.failed("write", self.new.content, error))?;
                    flusher.wrote(length);
                }
            }
        }
        match self.missing.fetch_sub(length, Ordering::AcqRel) == length {
            true => self.finish(incoming, flusher),
            false => Ok(()),
        }
    }

    /// Returns the file that the bytes are for; nothing where the earlier tree's has them.
    fn own(
        &self,
        bytes: &[u8],
        offset: u64,
        incoming: &Incoming,
        flusher: &Flusher,
    ) -> Result<Option<Arc<OwnFile>>, ArchiveError> {
        let candidate = match &*self.target() {
            Target::Own(own) => return Ok(Some(Arc::clone(own))),
            Target::Earlier(comparing) => Arc::clone(&comparing.candidate),
            Target::Failed => return Ok(None),
        };
        let agreed = candidate.has(bytes, offset).then(|| Agreed {
            offset,
            length: u32::try_from(bytes.len()).expect("a piece is no longer than a batch"),
            hash: hash(bytes),
        });
        let mut target = self.target();
        let own = match (std::mem::replace(&mut *target, Target::Failed), agreed) {
            // Another piece differed meanwhile.
            (Target::Own(own), _) => own,
            (Target::Earlier(mut comparing), Some(agreed)) => {
                comparing.agreed.push(agreed);
                *target = Target::Earlier(comparing);
                return Ok(None);
            }
            (Target::Earlier(comparing), None) => self.part(comparing, incoming, flusher)?,
            (Target::Failed, _) => return Ok(None),
        };
        *target = Target::Own(Arc::clone(&own));
        Ok(Some(own))
    }

    /// Turns away from the earlier tree's file to one of its own, which gets what agreed.
    fn part(
        &self,
        comparing: Comparing,
        incoming: &Incoming,
        flusher: &Flusher,
    ) -> Result<Arc<OwnFile>, ArchiveError> {
        let Comparing { candidate, agreed } = comparing;
        let (file, earlier) = (incoming.open(self.new.content)?, candidate.file());
        let clones = incoming.earlier();
        let clones = clones.filter(|one| one.clone_file(&file, earlier, self.new.size));
        let source = if clones.is_some() { &file } else { earlier };
        let mut bytes = Vec::new();
        for Agreed {
            offset,
            length,
            hash: expected,
        } in agreed
        {
            incoming.go_on()?;
            bytes.resize(length as usize, 0);
            let read = source.read_exact_at(&mut bytes, offset);
            if read.is_err() || hash(&bytes) != expected {
                return Err(ArchiveError::EarlierChanged);
            }
            match clones {
                Some(earlier) => earlier.took_over(length.into()),
                None => {
                    let written = file.write_all_at(&bytes, offset);
                    written.map_err(|error| incoming.failed("write", self.new.content, error))?;
                    flusher.wrote(length.into());
                }
            }
        }
        Ok(OwnFile::new(file, clones.is_some()))
    }

    fn finish(&self, incoming: &Incoming, flusher: &Flusher) -> Result<(), ArchiveError> {
        // Nobody else looks any more.
        let own = match std::mem::replace(&mut *self.target(), Target::Failed) {
            Target::Own(own) => own,
            Target::Earlier(comparing) => {
                if incoming.link(&self.new, &comparing.candidate)? {
                    return Ok(());
                }
                self.part(comparing, incoming, flusher)?
            }
            Target::Failed => return Ok(()),
        };
        incoming.describe(&own.file, &self.new)
    }

    fn target(&self) -> MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnFile {
    fn new(file: File, cloned: bool) -> Arc<Self> {
        Arc::new(Self {
            file,
            cloned: AtomicBool::new(cloned),
        })
    }

    /// Whether these bytes stand there already. What differs once is written from there on.
    fn has(&self, bytes: &[u8], offset: u64) -> bool {
        let has = self.cloned.load(Ordering::Relaxed) && takeover::has(&self.file, bytes, offset);
        if !has {
            self.cloned.store(false, Ordering::Relaxed);
        }
        has
    }
}

fn hash(bytes: &[u8]) -> ContentHash {
    let mut hasher = ContentHasher::new();
    hasher.update(bytes);
    hasher.finish()
}
