//! Whole deployments on a real directory, from a source in memory, with crashes between and
//! around all steps.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex as Guarded,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deploy_spec::{Descriptor, Digest, release::Image};
use deployctl::archive::{PackOptions, pack};

use super::*;
use crate::{
    hooks::tests::write_script,
    machine::{Exit, Mode},
    pause::Pauses,
    runner::{Runner, Signals},
    source::{Look, SourceError},
};

/// A registry in memory.
#[derive(Default)]
struct Memory {
    blobs: Guarded<BTreeMap<Digest, Vec<u8>>>,
    channel: Guarded<Option<(Digest, Vec<u8>)>>,
    fetched: AtomicUsize,
    down: std::sync::atomic::AtomicBool,
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
        fs::write(path, self.blob(digest)?).map_err(SourceError::new)
    }
}

/// Nobody ever signals.
struct Silence;

impl Signals for Silence {
    async fn next(&mut self) {
        std::future::pending().await
    }
}

/// Where the process dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    Before(usize),
    After(usize),
}

/// Dies at one work: from then on nothing is done any more, and the runner is told of a
/// failure, which ends a run of one look.
struct Mortal {
    inner: Deployer<Memory>,
    death: Option<Death>,
    works: AtomicUsize,
    dead: std::sync::atomic::AtomicBool,
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
}

struct Host {
    directory: tempfile::TempDir,
    source: Arc<Memory>,
    clean_old: bool,
}

/// Writes down what it was given and when, and whether the tree was whole.
const SCRIPT: &str = "#!/bin/sh
date +%s%3N >>$HOME/times
cat $NEWROOT/a $NEWROOT/b >/dev/null || { echo half >>$HOME/runs; exit 1; }
[ -z \"$OLDROOT\" ] || [ -e $OLDROOT/a ] || { echo gone >>$HOME/runs; exit 1; }
echo \"${OLDID:-none} $NEWID\" >>$HOME/runs
[ ! -e $HOME/fail ]
";

impl Host {
    fn new() -> Self {
        let host = Self {
            directory: tempfile::tempdir().unwrap(),
            source: Arc::default(),
            clean_old: false,
        };
        write_script(&host.path("deploy.sh"), SCRIPT);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn release(&self, number: u64) -> Digest {
        let b = format!("b of v{number}");
        self.source
            .release(number, &[("one", "a", "the same"), ("two", "b", &b)])
    }

    fn deployer(&self) -> Deployer<Memory> {
        let home = (
            std::ffi::OsString::from("HOME"),
            self.directory.path().as_os_str().to_owned(),
        );
        let path = ("PATH".into(), "/usr/bin:/bin".into());
        let settings = Settings {
            configuration: "project".parse().unwrap(),
            channel: "latest".to_owned(),
            script: Script::open(&self.path("deploy.sh"), [home, path]).unwrap(),
            clean_old: self.clean_old,
            clock: Timestamp::now,
        };
        let directory = Arc::new(Directory::open(&self.path("host"), None).unwrap());
        Deployer::new(Arc::clone(&self.source), directory, settings)
    }

    async fn once(&self, death: Option<Death>) -> (Exit, usize) {
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
            pauses,
        );
        let exit = runner.run(Silence).await;
        (exit, mortal.works.load(Ordering::Relaxed))
    }

    async fn look(&self) -> Exit {
        self.once(None).await.0
    }

    fn runs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("runs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// When the script was run, each time, in milliseconds.
    fn times(&self) -> Vec<u64> {
        let text = fs::read_to_string(self.path("times")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    #[track_caller]
    fn assert_on(&self, id: &Digest) {
        let state: Record =
            serde_json::from_slice(&fs::read(self.path("host/state.json")).unwrap()).unwrap();
        assert_eq!(state.id, *id);
        let current = fs::read_link(self.path("host/current")).unwrap();
        assert_eq!(current, Path::new("unpacked").join(id.file_name()));
        let journal: Entry =
            serde_json::from_slice(&fs::read(self.path("host/journal.json")).unwrap()).unwrap();
        assert_eq!((journal.unfinished, journal.deployed), (None, Some(state)));
        let left = fs::read_dir(self.path("host/unpacked")).unwrap();
        let left: Vec<_> = left
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.to_string_lossy().starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn releases_are_deployed_once_each() {
    let host = Host::new();
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&first);
    assert_eq!(host.look().await, Exit::Success);
    let second = host.release(2);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
    assert_eq!(
        host.runs(),
        [format!("none {first}"), format!("{first} {second}")]
    );
    // Two layers at first, and only the changed one after.
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), 3);
    assert!(host.path("host/unpacked").join(first.file_name()).exists());
    assert_eq!(
        fs::read_dir(host.path("host/cache/sha256"))
            .unwrap()
            .count(),
        2
    );
}

#[tokio::test]
async fn dying_around_any_step_ends_on_the_newest_release_all_the_same() {
    for clean_old in [false, true] {
        let mut step = 0;
        loop {
            let mut reached = false;
            for death in [Death::Before(step), Death::After(step)] {
                let host = Host {
                    clean_old,
                    ..Host::new()
                };
                let first = host.release(1);
                assert_eq!(host.look().await, Exit::Success);
                let second = host.release(2);
                let (_, works) = host.once(Some(death)).await;
                reached |= works > step;
                assert_eq!(host.look().await, Exit::Success, "{death:?}");
                host.assert_on(&second);
                let runs = host.runs();
                assert!(
                    !runs.iter().any(|run| run == "half" || run == "gone"),
                    "{death:?}: {runs:?}"
                );
                assert_eq!(runs.len(), 2, "{death:?}: {runs:?}");
                assert!(
                    runs[1..]
                        .iter()
                        .all(|run| *run == format!("{first} {second}")),
                    "{death:?}: {runs:?}"
                );
                assert_eq!(
                    host.path("host/unpacked").join(first.file_name()).exists(),
                    !clean_old,
                    "{death:?}"
                );
            }
            if !reached {
                break;
            }
            step += 1;
        }
        assert_eq!(
            step, 7,
            "recover, fetch, stage, script, save, switch, clean"
        );
    }
}

#[tokio::test]
async fn a_failing_script_leaves_the_old_release_and_going_back_repairs_it() {
    let host = Host::new();
    let first = host.release(1);
    host.look().await;
    let back = host.source.channel.lock().unwrap().clone();
    let second = host.release(2);
    fs::write(host.path("fail"), "").unwrap();
    assert_eq!(host.look().await, Exit::Failure);
    let state: Record =
        serde_json::from_slice(&fs::read(host.path("host/state.json")).unwrap()).unwrap();
    assert_eq!(state.id, first);
    assert_eq!(host.directory_current(), first);
    fs::remove_file(host.path("fail")).unwrap();
    *host.source.channel.lock().unwrap() = back;
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&first);
    assert_eq!(
        host.runs(),
        [
            format!("none {first}"),
            format!("{first} {second}"),
            format!("{second} {first}")
        ]
    );
}

impl Host {
    fn directory_current(&self) -> Digest {
        let target = fs::read_link(self.path("host/current")).unwrap();
        Digest::from_file_name(target.file_name().unwrap().to_str().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_damaged_layer_in_the_cache_is_fetched_again() {
    let host = Host::new();
    host.release(1);
    host.look().await;
    for entry in fs::read_dir(host.path("host/cache/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    // One layer is the same: it is found in the cache, and found to be wrong.
    let second = host.release(2);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_state_file_that_cannot_be_read_is_kept_and_recovered() {
    for journal in [true, false] {
        let host = Host::new();
        let first = host.release(1);
        host.look().await;
        fs::write(host.path("host/state.json"), "{ no json").unwrap();
        if !journal {
            fs::write(host.path("host/journal.json"), "no json either").unwrap();
        }
        assert_eq!(host.look().await, Exit::Success);
        // Recovered: the script is not run again.
        assert_eq!(host.runs().len(), 1);
        let state: Record =
            serde_json::from_slice(&fs::read(host.path("host/state.json")).unwrap()).unwrap();
        assert_eq!(state.id, first);
        let kept = fs::read_dir(host.path("host"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let kept = kept.filter(|path| path.to_string_lossy().contains("state.json.corrupt-"));
        assert_eq!(
            kept.map(|path| fs::read_to_string(path).unwrap())
                .collect::<Vec<_>>(),
            ["{ no json"]
        );
        let second = host.release(2);
        assert_eq!(host.look().await, Exit::Success);
        host.assert_on(&second);
        assert_eq!(host.runs()[1], format!("{first} {second}"));
    }
}

#[tokio::test]
async fn a_tree_that_somebody_removed_is_deployed_again() {
    let host = Host::new();
    let first = host.release(1);
    host.look().await;
    fs::remove_dir_all(host.path("host/unpacked").join(first.file_name())).unwrap();
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&first);
    assert_eq!(host.runs().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_deployed_changes_nothing() {
    let host = Host::new();
    assert_eq!(host.look().await, Exit::Failure, "no such channel");
    let first = host.release(1);
    host.look().await;
    host.source.down.store(true, Ordering::Relaxed);
    assert_eq!(host.look().await, Exit::Failure, "no registry");
    host.source.down.store(false, Ordering::Relaxed);
    for manifest in [
        &b"{}"[..],
        b"<html>",
        br#"{"schemaVersion":2,"manifests":[]}"#,
    ] {
        *host.source.channel.lock().unwrap() = Some((Digest::sha256(manifest), manifest.to_vec()));
        assert_eq!(host.look().await, Exit::Failure);
    }
    host.release(2);
    host.source
        .blobs
        .lock()
        .unwrap()
        .retain(|_, bytes| bytes.first() == Some(&b'{'));
    fs::remove_dir_all(host.path("host/cache")).unwrap();
    assert_eq!(host.look().await, Exit::Failure, "no layers");
    assert_eq!(host.directory_current(), first);
    assert_eq!(host.runs().len(), 1);
}

#[tokio::test]
async fn following_retries_a_failing_script_with_pauses_and_takes_the_next_release() {
    struct Told(tokio::sync::oneshot::Receiver<()>);
    impl Signals for Told {
        async fn next(&mut self) {
            if (&mut self.0).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
    let host = Host::new();
    host.release(1);
    host.look().await;
    host.release(2);
    fs::write(host.path("fail"), "").unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let pauses = Pauses::new(Duration::from_millis(20));
    let runner = Runner::new(
        Arc::clone(&host.source),
        Arc::new(host.deployer()),
        Mode::Follow,
        pauses,
    );
    let running = tokio::spawn(runner.run(Told(told)));
    let until = async |check: &dyn Fn() -> bool| {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until(&|| host.runs().len() == 3).await;
    // Half of the shortest pause is the least that the draw can give. The script's own times: this
    // test may be late to see a run.
    let times = host.times();
    assert!(times[2] - times[1] >= 500, "{times:?}");
    fs::remove_file(host.path("fail")).unwrap();
    let third = host.release(3);
    until(&|| host.path("host/current/b").exists() && host.directory_current() == third).await;
    until(&|| {
        fs::read_to_string(host.path("host/journal.json"))
            .unwrap()
            .contains("\"idle\"")
    })
    .await;
    tell.send(()).unwrap();
    assert_eq!(running.await.unwrap(), Exit::Success);
    host.assert_on(&third);
}
