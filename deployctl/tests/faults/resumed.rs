//! Downloads that go on with a hash that was saved: read no more than they must, and believe
//! nothing that the digest at the end does not confirm.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::support::{
    repository,
    server::{Reply, Request, Server},
};
use deploy_spec::Digest;
use deployctl::client::{ClientError, Progress};
use tempfile::TempDir;
use tokio::sync::Notify;

const LENGTH: usize = 200_000;
/// Where the first answer is cut off.
const CUT: usize = 120_000;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at * at / 7 % 251) as u8).collect()
}

/// A blob that comes up to a point once, and then not at all until the registry is well.
struct Broken {
    server: Server,
    well: Arc<AtomicBool>,
    bytes: Vec<u8>,
    digest: Digest,
    place: TempDir,
}

impl Broken {
    fn start(bytes: Vec<u8>, cut: usize, refusal: Reply) -> Self {
        let well = Arc::<AtomicBool>::default();
        let (is_well, asked, sent) = (well.clone(), AtomicUsize::new(0), bytes.clone());
        let server = Server::start(move |request: &Request| {
            if request.target == "/v2/" {
                return Reply::new(200);
            }
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            if !first && !is_well.load(Ordering::SeqCst) {
                return refusal.clone();
            }
            let range = request.header("range");
            let range = range.map(|text| text.trim_start_matches("bytes=").trim_end_matches('-'));
            let from: usize = range.map_or(0, |text| text.parse().unwrap());
            let all = sent.len();
            let reply = match from {
                0 => Reply::new(200),
                _ => Reply::new(206)
                    .header("Content-Range", format!("bytes {from}-{}/{all}", all - 1)),
            };
            Reply {
                cut: first.then_some(cut),
                ..reply.body(&sent[from..])
            }
        });
        Self {
            server,
            well,
            digest: Digest::sha256(&bytes),
            bytes,
            place: tempfile::tempdir().unwrap(),
        }
    }

    /// Returns one whose download was interrupted, and has saved how far it was hashed.
    async fn interrupted() -> Self {
        let broken = Self::start(content(), CUT, Reply::new(503));
        let error = broken.download().await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { .. }), "{error}");
        assert_eq!(fs::read(broken.part()).unwrap(), broken.bytes[..CUT]);
        assert!(broken.state().exists());
        broken.well.store(true, Ordering::SeqCst);
        broken
    }

    fn part(&self) -> PathBuf {
        self.place.path().join("blob.part")
    }

    fn state(&self) -> PathBuf {
        self.place.path().join("blob.part.state")
    }

    async fn download(&self) -> Result<u64, ClientError> {
        let size = Some(self.bytes.len() as u64);
        let (path, progress) = (self.part(), Progress::none());
        let repository = repository(&self.server.address);
        repository
            .download(&self.digest, size, &path, &progress)
            .await
    }

    /// Makes the first byte of what has come another one.
    fn rot(&self) {
        let file = fs::OpenOptions::new().write(true).open(self.part());
        let wrong = [self.bytes[0] ^ 1];
        file.unwrap().write_all_at(&wrong, 0).unwrap();
    }

    /// Returns the names of what lies there.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.path()).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        entries.map(|entry| name(entry.unwrap())).collect()
    }

    /// Returns where the last request began.
    fn last_range(&self) -> String {
        let last = self.server.seen("GET").pop().unwrap();
        last.header("range").unwrap_or_default().to_owned()
    }

    async fn ends_well(&self) {
        assert_eq!(self.download().await.unwrap(), self.bytes.len() as u64);
        assert!(fs::read(self.part()).unwrap() == self.bytes);
        assert_eq!(self.names(), ["blob.part"]);
    }
}

#[tokio::test]
async fn what_was_hashed_before_is_not_read_again() {
    let broken = Broken::interrupted().await;
    // Nobody looks there: an agent finds it when the layer is unpacked.
    broken.rot();
    assert_eq!(broken.download().await.unwrap(), LENGTH as u64);
    assert_eq!(broken.last_range(), format!("bytes={CUT}-"));
    assert_eq!(fs::read(broken.part()).unwrap()[1..], broken.bytes[1..]);
    assert_eq!(broken.names(), ["blob.part"]);
}

#[tokio::test]
async fn what_came_after_it_was_saved_is_read() {
    let broken = Broken::interrupted().await;
    fs::write(broken.part(), &broken.bytes[..CUT + 30_000]).unwrap();
    broken.ends_well().await;
    assert_eq!(broken.last_range(), format!("bytes={}-", CUT + 30_000));

    let broken = Broken::interrupted().await;
    let mut wrong = broken.bytes[..CUT + 30_000].to_vec();
    wrong[CUT + 10] ^= 1;
    fs::write(broken.part(), wrong).unwrap();
    let error = broken.download().await.unwrap_err();
    assert!(matches!(error, ClientError::Digest { .. }), "{error}");
    assert_eq!(broken.names(), [""; 0]);
    broken.ends_well().await;
    assert_eq!(broken.last_range(), "");
}

#[tokio::test]
async fn where_nothing_usable_is_saved_all_of_it_is_read() {
    let spoil: [fn(&Path, &str); 5] = [
        |state, _| fs::remove_file(state).unwrap(),
        |state, _| fs::write(state, "").unwrap(),
        |state, text| fs::write(state, &text[..text.len() - 9]).unwrap(),
        |state, text| fs::write(state, text.replace("\"version\":1", "\"version\":9")).unwrap(),
        |state, text| {
            // Of more bytes than there are.
            let beyond = text.replace(&CUT.to_string(), &(CUT + 1).to_string());
            assert_ne!(beyond, text);
            fs::write(state, beyond).unwrap();
        },
    ];
    for spoil in spoil {
        let broken = Broken::interrupted().await;
        let text = fs::read_to_string(broken.state()).unwrap();
        spoil(&broken.state(), &text);
        broken.ends_well().await;
        assert_eq!(broken.last_range(), format!("bytes={CUT}-"));

        let broken = Broken::interrupted().await;
        let text = fs::read_to_string(broken.state()).unwrap();
        spoil(&broken.state(), &text);
        broken.rot();
        let error = broken.download().await.unwrap_err();
        assert!(matches!(error, ClientError::Digest { .. }), "{error}");
        assert_eq!(broken.names(), [""; 0]);
        broken.ends_well().await;
    }
}

/// Changes how many bytes were hashed, so that what is saved is well formed and wrong.
fn lie(state: &Path) {
    let text = fs::read_to_string(state).unwrap();
    let less = text.replace(&CUT.to_string(), &(CUT - 1).to_string());
    assert_ne!(less, text);
    fs::write(state, less).unwrap();
}

#[tokio::test]
async fn right_bytes_outlive_what_was_wrong_of_them() {
    let broken = Broken::interrupted().await;
    lie(&broken.state());
    let before = broken.server.seen("GET").len();
    broken.ends_well().await;
    assert_eq!(broken.last_range(), format!("bytes={CUT}-"));
    assert_eq!(broken.server.seen("GET").len(), before + 1);
}

#[tokio::test]
async fn wrong_bytes_go_with_what_was_wrong_of_them() {
    let broken = Broken::interrupted().await;
    lie(&broken.state());
    broken.rot();
    let mut rotten = broken.bytes.clone();
    rotten[0] ^= 1;
    match broken.download().await {
        // What the file had, not what a wrong beginning made of it.
        Err(ClientError::Digest { found, .. }) => assert_eq!(found, Digest::sha256(&rotten)),
        other => panic!("{other:?}"),
    }
    assert_eq!(broken.names(), [""; 0]);
    broken.ends_well().await;
    assert_eq!(broken.last_range(), "");
}

#[tokio::test]
async fn a_file_of_another_blob_is_no_beginning() {
    let broken = Broken::interrupted().await;
    fs::write(broken.part(), vec![0; LENGTH + 1]).unwrap();
    broken.ends_well().await;
    assert_eq!(broken.last_range(), "");
}

/// One that is killed says nothing at its end: what counts is what it saved on the way.
#[test]
fn a_download_that_is_killed_has_saved_on_the_way() {
    const MIB: usize = 1024 * 1024;
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    // Asked to wait, it is still waiting when it is killed.
    let refusal = Reply::new(503).header("Retry-After", 50);
    let broken = Broken::start(vec![7; 70 * MIB], 66 * MIB, refusal);
    let (path, size) = (broken.part(), Some(broken.bytes.len() as u64));
    let arrived = Arc::new(Notify::new());
    let tell = arrived.clone();
    let progress = Progress::new(move |position| {
        if position == 66 * MIB as u64 {
            tell.notify_one();
        }
    });
    let killed = runtime();
    killed.block_on(async {
        let repository = repository(&broken.server.address);
        tokio::select! {
            ended = repository.download(&broken.digest, size, &path, &progress) => panic!("{ended:?}"),
            () = arrived.notified() => {}
        }
    });
    // Waits for the write that was under way.
    drop(killed);
    assert!(broken.state().exists());
    broken.well.store(true, Ordering::SeqCst);
    broken.rot();
    let ended = runtime().block_on(broken.download());
    assert_eq!(ended.unwrap(), broken.bytes.len() as u64);
    assert!(fs::read(broken.part()).unwrap()[1..] == broken.bytes[1..]);
    assert_eq!(broken.names(), ["blob.part"]);
}
