//! A host that deploys from a registry in memory, and that dies when it is told to.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex as Guarded,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deploy_spec::{Descriptor, Digest, release::Image};
use deployctl::archive::{PackOptions, pack};

use super::*;
use crate::{
    hooks::{Hook, tests::write_script},
    source::{Look, SourceError},
};

/// A registry in memory.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) blobs: Guarded<BTreeMap<Digest, Vec<u8>>>,
    pub(super) channel: Guarded<Option<(Digest, Vec<u8>)>>,
    pub(super) fetched: AtomicUsize,
    pub(super) down: AtomicBool,
    /// Where there is one, blobs come only to as many who ask at the same time.
    pub(super) meeting: Option<tokio::sync::Barrier>,
}

impl Memory {
    /// Makes a release of layers, each a map of file names and contents, and moves the channel
    /// to it.
    fn release(&self, number: u64, layers: &[(&str, &str, &str)]) -> Digest {
        let mut made = Vec::new();
        for (component, name, content) in layers {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(name), content).unwrap();
            let mut bytes = Vec::new();
            let packed = pack(
                &[directory.path().to_owned()],
                &mut bytes,
                &PackOptions::default(),
            )
            .unwrap();
            self.blobs
                .lock()
                .unwrap()
                .insert(packed.digest.clone(), bytes);
            made.push(deploy_spec::ReleaseLayer {
                component: component.parse().unwrap(),
                version: format!("v{number}").parse().unwrap(),
                created: None,
                digest: packed.digest,
                size: packed.size,
                media_type: Compression::Gzip.layer_media_type().to_owned(),
                diff_id: Some(packed.diff_id),
                unpacked_size: Some(packed.unpacked_size),
            });
        }
        let release = Release {
            configuration: "project".parse().unwrap(),
            number: deploy_spec::ReleaseNumber::new(number),
            created: None,
            parent: None,
            channel: None,
            author: None,
            reason: None,
            layers: made,
            image: Image::new("amd64", "linux"),
        };
        let documents = release.to_documents().unwrap();
        self.blobs
            .lock()
            .unwrap()
            .insert(Digest::sha256(&documents.config), documents.config);
        let id = Digest::sha256(&documents.manifest);
        *self.channel.lock().unwrap() = Some((id.clone(), documents.manifest));
        id
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        let blobs = self.blobs.lock().unwrap();
        blobs
            .get(digest)
            .cloned()
            .ok_or_else(|| SourceError::new(io::Error::other("no such blob")))
    }
}

impl Source for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    async fn look(&self, known: Option<&Digest>, _wait: Duration) -> Result<Look, SourceError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(SourceError::new(io::Error::other("down")));
        }
        let channel = self.channel.lock().unwrap().clone();
        Ok(match channel {
            None => Look::Missing,
            Some((id, _)) if Some(&id) == known => Look::Unchanged { waited: false },
            Some((id, bytes)) => Look::Manifest { id, bytes },
        })
    }

    async fn document(&self, descriptor: &Descriptor, _limit: u64) -> Result<Vec<u8>, SourceError> {
        self.blob(&descriptor.digest)
    }

    async fn fetch(&self, digest: &Digest, _size: u64, path: &Path) -> Result<(), SourceError> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        if let Some(meeting) = &self.meeting {
            meeting.wait().await;
        }
        fs::write(path, self.blob(digest)?).map_err(SourceError::new)
    }
}

/// Nobody ever signals.
struct Silence;

impl Signals for Silence {
    async fn next(&mut self) -> Signal {
        std::future::pending().await
    }
}

/// Where the process dies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Death {
    Before(usize),
    After(usize),
}

/// Dies at one work: from then on nothing is done any more, and the runner is told of a
/// failure, which ends a run of one look.
struct Mortal {
    inner: Deployer<Memory>,
    death: Option<Death>,
    works: AtomicUsize,
    dead: AtomicBool,
}

impl Executor for Mortal {
    async fn seen(&self, id: Id, manifest: Vec<u8>) {
        self.inner.seen(id, manifest).await;
    }

    async fn execute(&self, work: Work, stop: Stop) -> Result<Outcome, AgentError> {
        let number = self.works.fetch_add(1, Ordering::Relaxed);
        let dies = |here: usize| number == here || self.dead.load(Ordering::Relaxed);
        match self.death {
            Some(Death::Before(here)) if dies(here) => {
                self.dead.store(true, Ordering::Relaxed);
                Err(AgentError::Interrupted)
            }
            Some(Death::After(here)) if dies(here) => {
                if !self.dead.swap(true, Ordering::Relaxed) {
                    // What it came to is never learnt.
                    drop(self.inner.execute(work, stop).await);
                }
                Err(AgentError::Interrupted)
            }
            _ => self.inner.execute(work, stop).await,
        }
    }

    async fn why_bad(&self, id: &Id) -> Option<String> {
        self.inner.why_bad(id).await
    }

    async fn forgive(&self) -> Result<(), AgentError> {
        self.inner.forgive().await
    }

    fn is_asked(&self, request: Request) -> bool {
        self.inner.is_asked(request)
    }

    async fn go_back(&self) -> Result<Id, AgentError> {
        self.inner.go_back().await
    }
}

/// A place to deploy to, and the registry that it follows.
pub(super) struct Host {
    directory: tempfile::TempDir,
    pub(super) source: Arc<Memory>,
    pub(super) keep: Option<usize>,
    pub(super) on_failure: OnFailure,
    pub(super) check_timeout: Duration,
}

/// Writes down what it was given and when, and whether the tree was whole.
const SCRIPT: &str = "#!/bin/sh
date +%s%3N >>$HOME/times
cat $NEWROOT/a $NEWROOT/b >/dev/null || { echo half >>$HOME/runs; exit 1; }
[ -z \"$OLDROOT\" ] || [ -e $OLDROOT/a ] || { echo gone >>$HOME/runs; exit 1; }
echo \"${OLDID:-none} $NEWID\" >>$HOME/runs
[ ! -e $HOME/fail ] && [ ! -e $HOME/fail-$NEWID ]
";
/// For how long a check may fail that is to succeed.
pub(super) const LONG: Duration = Duration::from_secs(600);

impl Host {
    pub(super) fn new() -> Self {
        let host = Self {
            directory: tempfile::tempdir().unwrap(),
            source: Arc::default(),
            keep: None,
            on_failure: OnFailure::Retry,
            check_timeout: LONG,
        };
        write_script(&host.path("deploy.sh"), SCRIPT);
        host
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn release(&self, number: u64) -> Digest {
        let b = format!("b of v{number}");
        self.release_of(number, &[("one", "a", "the same"), ("two", "b", &b)])
    }

    pub(super) fn release_of(&self, number: u64, layers: &[(&str, &str, &str)]) -> Digest {
        self.source.release(number, layers)
    }

    pub(super) fn deployer(&self) -> Deployer<Memory> {
        let home = (
            std::ffi::OsString::from("HOME"),
            self.directory.path().as_os_str().to_owned(),
        );
        let path = ("PATH".into(), "/usr/bin:/bin".into());
        let environment = [home, path];
        let open = |hook, name| Script::open(hook, &self.path(name), environment.clone()).unwrap();
        let there = |name: &&str| self.path(name).exists();
        let prepare = Some("prepare.sh").filter(there);
        let check = Some("check.sh").filter(there);
        let settings = Settings {
            configuration: "project".parse().unwrap(),
            channel: "latest".to_owned(),
            prepare: prepare.map(|name| open(Hook::Prepare, name)),
            script: open(Hook::Script, "deploy.sh"),
            check: check.map(|name| {
                Check::new(open(Hook::Check, name), self.check_timeout, Duration::ZERO)
            }),
            unpacking: UnpackOptions::default(),
            keep: self.keep,
            clock: Timestamp::now,
        };
        let directory = Arc::new(Directory::open(&self.path("host"), None).unwrap());
        Deployer::new(Arc::clone(&self.source), directory, settings)
    }

    pub(super) async fn once(&self, death: Option<Death>) -> (Exit, usize) {
        let mortal = Mortal {
            inner: self.deployer(),
            death,
            works: AtomicUsize::new(0),
            dead: Default::default(),
        };
        let mortal = Arc::new(mortal);
        let pauses = Pauses::new(Duration::from_millis(1));
        let runner = Runner::new(
            Arc::clone(&self.source),
            Arc::clone(&mortal),
            Mode::Once,
            self.on_failure,
            pauses,
        );
        let exit = runner.run(Silence).await;
        (exit, mortal.works.load(Ordering::Relaxed))
    }

    pub(super) async fn look(&self) -> Exit {
        self.once(None).await.0
    }

    pub(super) fn runs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("runs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// When the script was run, each time, in milliseconds.
    pub(super) fn times(&self) -> Vec<u64> {
        let text = fs::read_to_string(self.path("times")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    #[track_caller]
    pub(super) fn assert_on(&self, id: &Digest) {
        let state: Record =
            serde_json::from_slice(&fs::read(self.path("host/state.json")).unwrap()).unwrap();
        assert_eq!(state.id, *id);
        let current = fs::read_link(self.path("host/current")).unwrap();
        assert_eq!(current, Path::new("unpacked").join(id.file_name()));
        let journal = self.entry();
        let deployed = journal.deployed.map(|deployed| deployed.record);
        assert_eq!((journal.unfinished, deployed), (None, Some(state)));
        let left = fs::read_dir(self.path("host/unpacked")).unwrap();
        let left: Vec<_> = left
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.to_string_lossy().starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// What the journal says.
    pub(super) fn entry(&self) -> Entry {
        serde_json::from_slice(&fs::read(self.path("host/journal.json")).unwrap()).unwrap()
    }

    /// Writes one of the other scripts, `prepare` or `check`.
    pub(super) fn hook(&self, name: &str, body: &str) {
        write_script(
            &self.path(&format!("{name}.sh")),
            &format!("#!/bin/sh\n{body}\n"),
        );
    }

    /// Whether the tree of a release is there.
    pub(super) fn has_tree(&self, id: &Digest) -> bool {
        self.path("host/unpacked").join(id.file_name()).exists()
    }

    pub(super) fn directory_current(&self) -> Digest {
        let target = fs::read_link(self.path("host/current")).unwrap();
        Digest::from_file_name(target.file_name().unwrap().to_str().unwrap()).unwrap()
    }
}
