//! The journal of a directory: what was promised and may not be on stable storage at its own
//! place yet. Written and read by [`super::writer`] alone.
//!
//! Changes are appended in batches, one sync a batch. Two files are used in turn, each written
//! over from its beginning: while one fills, what the other one speaks of is brought to stable
//! storage. A batch counts where its checksum holds, so that one is there as a whole or not at
//! all; it begins in a block of its own, so that writing it endangers none before it.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path as FilePath,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use deploy_spec::Digest;

const KIB: u64 = 1024;
/// A file that holds so much is full. As much is looked through at a start after a crash, and
/// done again where it is not there, which takes a fraction of a second; less would sync the
/// same directories more often.
pub(super) const FULL: u64 = 32 * 1024 * KIB;
/// Room is made in such steps: to write over what is there needs no change of the file system's
/// own journal, so a sync is one write and one flush.
const STEP: u64 = 1024 * KIB;
/// What a device writes as a whole, most likely.
const BLOCK: u64 = 4 * KIB;
const MAGIC: &[u8; 8] = b"deployj1";
const NUMBERS: usize = 32;
const HEADER: usize = NUMBERS + 64;

/// One change, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The object has these bytes.
    Put {
        key: String,
        modified: SystemTime,
        bytes: Bytes,
    },
    /// There is no such object.
    Remove { key: String },
    /// A change of an earlier batch was not made after all.
    Void { batch: BatchId, index: u64 },
}

/// Names a batch: which filling of a file, and which one in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BatchId {
    epoch: u64,
    sequence: u64,
}

/// Changes to be appended together.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    changes: u64,
    /// Length without what fills the last block up, once sealed.
    sealed: Option<usize>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; HEADER],
            changes: 0,
            sealed: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// Adds that the object has these bytes, and returns the change's place in the batch.
    pub(super) fn put(&mut self, key: &str, modified: SystemTime, bytes: &[u8]) -> u64 {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.add(b'p', nanoseconds, key.as_bytes(), bytes)
    }

    /// Adds that there is no such object.
    pub(super) fn remove(&mut self, key: &str) -> u64 {
        self.add(b'r', 0, key.as_bytes(), &[])
    }

    fn void(&mut self, batch: BatchId, index: u64) {
        let name = [batch.epoch.to_le_bytes(), batch.sequence.to_le_bytes()].concat();
        self.add(b'v', index, &name, &[]);
    }

    fn add(&mut self, kind: u8, number: u64, key: &[u8], bytes: &[u8]) -> u64 {
        self.bytes.push(kind);
        self.bytes.extend(number.to_le_bytes());
        for part in [key, bytes] {
            self.bytes.extend((part.len() as u64).to_le_bytes());
            self.bytes.extend(part);
        }
        self.changes += 1;
        self.changes - 1
    }

    /// Fills the header in, and the last block up. May be done again, for another place.
    fn seal(&mut self, id: BatchId) -> &[u8] {
        let length = *self.sealed.get_or_insert(self.bytes.len());
        self.bytes.truncate(length);
        let length = length as u64;
        let numbers = [
            *MAGIC,
            id.epoch.to_le_bytes(),
            id.sequence.to_le_bytes(),
            length.to_le_bytes(),
        ];
        self.bytes[..NUMBERS].copy_from_slice(&numbers.concat());
        let sum = checksum(&self.bytes);
        self.bytes[NUMBERS..HEADER].copy_from_slice(sum.hex().as_bytes());
        let whole = usize::try_from(aligned(length)).expect("it fits into memory");
        self.bytes.resize(whole, 0);
        &self.bytes
    }
}

/// Of everything but itself.
fn checksum(batch: &[u8]) -> Digest {
    let mut hasher = deploy_spec::Hasher::new(deploy_spec::Algorithm::Sha256);
    hasher.update(&batch[..NUMBERS]);
    hasher.update(&batch[HEADER..]);
    hasher.finish()
}

fn aligned(length: u64) -> u64 {
    length.next_multiple_of(BLOCK)
}

/// The journal, open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    files: [Filling; 2],
    active: usize,
    next: BatchId,
}

#[derive(Debug)]
struct Filling {
    file: File,
    /// Where the next batch goes.
    position: u64,
    /// How much of the file has blocks on the disk.
    room: u64,
}

impl Filling {
    /// Makes room for so many bytes at the position.
    fn make_room(&mut self, length: u64) -> io::Result<()> {
        let end = self.position + length;
        if end <= self.room {
            return Ok(());
        }
        let zeros = [0; 64 * KIB as usize];
        while self.room < end.next_multiple_of(STEP) {
            self.file.write_all_at(&zeros, self.room)?;
            self.room += zeros.len() as u64;
        }
        Ok(())
    }
}

impl Journal {
    /// Opens the journal in the directory, creating what is missing, and returns it with what
    /// it holds: all changes in order, without those that were not made.
    pub(super) fn open(directory: &FilePath) -> io::Result<(Self, Vec<Change>)> {
        fs::create_dir_all(directory)?;
        let mut found = Vec::new();
        let mut open = |name: &str| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(directory.join(name))?;
            found.extend(batches(&file)?);
            let room = file.metadata()?.len();
            Ok::<_, io::Error>(Filling {
                file,
                position: 0,
                room,
            })
        };
        let files = [open("0")?, open("1")?];
        // The names must survive as the content will.
        for directory in [Some(directory), directory.parent()].into_iter().flatten() {
            File::open(directory)?.sync_all()?;
        }
        found.sort_by_key(|(id, _)| (id.epoch, id.sequence));
        let epoch = found.last().map_or(0, |(id, _)| id.epoch) + 1;
        let voided: HashSet<(BatchId, u64)> = (found.iter().flat_map(|(_, changes)| changes))
            .filter_map(|change| match change {
                Change::Void { batch, index } => Some((*batch, *index)),
                _ => None,
            })
            .collect();
        let changes = found
            .into_iter()
            .flat_map(|(id, changes)| (0..).zip(changes).map(move |(index, it)| ((id, index), it)))
            .filter(|(place, change)| {
                !voided.contains(place) && !matches!(change, Change::Void { .. })
            })
            .map(|(_, change)| change)
            .collect();
        let journal = Self {
            files,
            active: 0,
            next: BatchId { epoch, sequence: 0 },
        };
        Ok((journal, changes))
    }

    /// Appends the batch; on return it is on stable storage.
    pub(super) fn append(&mut self, batch: &mut Batch) -> Result<BatchId, AppendError> {
        let id = self.next;
        let filling = &mut self.files[self.active];
        let bytes = batch.seal(id);
        let length = bytes.len() as u64;
        // Nothing counts before all of it is there.
        filling.make_room(length).map_err(AppendError::Absent)?;
        (filling.file.write_all_at(bytes, filling.position)).map_err(AppendError::Absent)?;
        filling.file.sync_data().map_err(AppendError::Unknown)?;
        filling.position += length;
        self.next.sequence += 1;
        Ok(id)
    }

    /// Says that a change of a batch was not made after all.
    pub(super) fn void(&mut self, batch: BatchId, index: u64) -> Result<(), AppendError> {
        let mut void = Batch::new();
        void.void(batch, index);
        self.append(&mut void).map(drop)
    }

    /// Returns whether the batch should rather go into the other file.
    pub(super) fn is_full_for(&self, batch: &Batch) -> bool {
        let position = self.files[self.active].position;
        position > 0 && position + batch.bytes.len() as u64 > FULL
    }

    /// Returns whether nothing was appended since the file was begun.
    pub(super) fn is_fresh(&self) -> bool {
        self.files[self.active].position == 0
    }

    /// Begins the other file anew. What it held must be on stable storage at its own place.
    pub(super) fn turn(&mut self) {
        self.active = 1 - self.active;
        self.files[self.active].position = 0;
        self.next = BatchId {
            epoch: self.next.epoch + 1,
            sequence: 0,
        };
    }

    /// Forgets everything, durably. All of it must be on stable storage at its own place.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        // A batch of nothing, so that what stood behind the old ones can never follow a new one:
        // an epoch is used once, also by a process that comes later.
        self.next = BatchId {
            epoch: self.next.epoch + 1,
            sequence: 0,
        };
        for filling in &mut self.files {
            if filling.room > 0 {
                filling.file.write_all_at(Batch::new().seal(self.next), 0)?;
                filling.file.sync_data()?;
            }
            filling.position = 0;
        }
        self.next.epoch += 1;
        Ok(())
    }
}

/// Why a batch was not appended.
#[derive(Debug)]
pub(super) enum AppendError {
    /// It is surely not there.
    Absent(io::Error),
    /// Nobody knows what is on the disk.
    Unknown(io::Error),
}

/// Returns the batches that a file holds, from its beginning.
fn batches(file: &File) -> io::Result<Vec<(BatchId, Vec<Change>)>> {
    let mut found: Vec<(BatchId, Vec<Change>)> = Vec::new();
    let mut position = 0;
    while let Some((id, changes, length)) = batch(file, position)? {
        let follows = match found.last() {
            None => id.sequence == 0,
            // What stands behind is left of an earlier filling.
            Some((last, _)) => id.epoch == last.epoch && id.sequence == last.sequence + 1,
        };
        if !follows {
            break;
        }
        found.push((id, changes));
        position += aligned(length);
    }
    Ok(found)
}

/// Returns the batch at that place, and its length; nothing where there is no whole one.
fn batch(file: &File, position: u64) -> io::Result<Option<(BatchId, Vec<Change>, u64)>> {
    let Some(header) = read(file, position, HEADER as u64)? else {
        return Ok(None);
    };
    let number = |at: usize| {
        let bytes = header[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    let id = BatchId {
        epoch: number(8),
        sequence: number(16),
    };
    let length = number(24);
    if header[..8] != *MAGIC || length < HEADER as u64 || position + length > file.metadata()?.len()
    {
        return Ok(None);
    }
    let Some(whole) = read(file, position, length)? else {
        return Ok(None);
    };
    if checksum(&whole).hex().as_bytes() != &whole[NUMBERS..HEADER] {
        return Ok(None);
    }
    let mut rest = Bytes::from(whole).slice(HEADER..);
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let change = change(&mut rest).ok_or_else(|| {
            io::Error::other("the journal holds something that another version wrote")
        })?;
        changes.push(change);
    }
    Ok(Some((id, changes, length)))
}

/// Returns so many bytes; nothing where the file ends before.
fn read(file: &File, position: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    match file.read_exact_at(&mut bytes, position) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes one change off the bytes.
fn change(rest: &mut Bytes) -> Option<Change> {
    let mut take = |length: usize| (length <= rest.len()).then(|| rest.split_to(length));
    let kind = take(1)?[0];
    let mut number = || Some(u64::from_le_bytes(take(8)?.as_ref().try_into().ok()?));
    let (when, key_length) = (number()?, number()?);
    let mut take = |length: u64| {
        let length = usize::try_from(length).ok()?;
        (length <= rest.len()).then(|| rest.split_to(length))
    };
    let key = take(key_length)?;
    let length = take(8)?;
    let bytes = take(u64::from_le_bytes(length.as_ref().try_into().ok()?))?;
    let text = |key: Bytes| String::from_utf8(key.into()).ok();
    Some(match kind {
        b'p' => Change::Put {
            key: text(key)?,
            modified: UNIX_EPOCH + Duration::from_nanos(when),
            bytes,
        },
        b'r' => Change::Remove { key: text(key)? },
        b'v' => Change::Void {
            batch: BatchId {
                epoch: u64::from_le_bytes(key.get(..8)?.try_into().ok()?),
                sequence: u64::from_le_bytes(key.get(8..16)?.try_into().ok()?),
            },
            index: when,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, bytes: &'static [u8]) -> Change {
        Change::Put {
            key: key.to_owned(),
            modified: UNIX_EPOCH + Duration::from_nanos(7),
            bytes: Bytes::from_static(bytes),
        }
    }

    fn append(journal: &mut Journal, changes: &[Change]) -> BatchId {
        let mut batch = Batch::new();
        for change in changes {
            match change {
                Change::Put {
                    key,
                    modified,
                    bytes,
                } => batch.put(key, *modified, bytes),
                Change::Remove { key } => batch.remove(key),
                Change::Void { .. } => unreachable!(),
            };
        }
        journal.append(&mut batch).unwrap()
    }

    fn removed(key: &str) -> Change {
        Change::Remove {
            key: key.to_owned(),
        }
    }

    #[test]
    fn changes_come_back_in_order_over_turns_without_those_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, found) = Journal::open(directory.path()).unwrap();
        assert_eq!(found, []);
        append(&mut journal, &[put("a", b"1"), removed("b")]);
        let id = append(&mut journal, &[put("c", b""), put("d", &[7; 5000])]);
        journal.turn();
        append(&mut journal, &[put("a", b"2")]);
        journal.void(id, 0).unwrap();
        let expected = [
            put("a", b"1"),
            removed("b"),
            put("d", &[7; 5000]),
            put("a", b"2"),
        ];
        // Opened again and again it says the same.
        for _ in 0..2 {
            let (_, found) = Journal::open(directory.path()).unwrap();
            assert_eq!(found, expected);
        }
        // The first file anew: what it held is forgotten, also where it reaches further.
        journal.turn();
        append(&mut journal, &[put("e", b"3")]);
        let (mut journal, found) = Journal::open(directory.path()).unwrap();
        assert_eq!(found, [put("a", b"2"), put("e", b"3")]);
        journal.clear().unwrap();
        assert_eq!(Journal::open(directory.path()).unwrap().1, []);
        append(&mut journal, &[put("f", b"4")]);
        assert_eq!(Journal::open(directory.path()).unwrap().1, [put("f", b"4")]);
    }

    #[test]
    fn batch_counts_as_a_whole_or_not_at_all_wherever_it_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        append(&mut journal, &[put("a", b"1")]);
        append(&mut journal, &[put("b", &[1; 9000]), put("c", b"2")]);
        let file = directory.path().join("0");
        let whole = fs::read(&file).unwrap();
        let end = usize::try_from(journal.files[0].position).unwrap();
        for cut in (4096..end).step_by(97) {
            let mut torn = whole.clone();
            torn[cut..end].fill(0);
            fs::write(&file, &torn).unwrap();
            let (_, found) = Journal::open(directory.path()).unwrap();
            let all = torn == whole;
            assert_eq!(found.len(), if all { 3 } else { 1 }, "{cut}");
            assert_eq!(found[0], put("a", b"1"));
        }
        let first = HEADER + 1 + 8 + 8 + 1 + 8 + 1;
        for length in [0, 1, HEADER, first - 1, first, 4096, 4097] {
            fs::write(&file, &whole[..length]).unwrap();
            let (_, found) = Journal::open(directory.path()).unwrap();
            assert_eq!(found.len(), usize::from(length >= first), "{length}");
        }
    }

    #[test]
    fn what_an_earlier_process_left_never_follows_a_new_batch() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        for key in ["a", "b", "c"] {
            append(&mut journal, &[put(key, b"old")]);
        }
        journal.clear().unwrap();
        for _ in 0..3 {
            let (mut journal, found) = Journal::open(directory.path()).unwrap();
            assert_eq!(found, []);
            append(&mut journal, &[put("a", b"new")]);
            let (mut journal, found) = Journal::open(directory.path()).unwrap();
            assert_eq!(found, [put("a", b"new")]);
            journal.clear().unwrap();
        }
    }
}
