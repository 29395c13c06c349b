//! A host that deploys from a registry in memory, and that dies when it is told to.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use deploy_spec::Digest;

use super::{memory::Memory, *};
use crate::{
    hooks::{Hook, tests::write_script},
    machine::Mode,
    pause::Pauses,
    runner::{Runner, Signal, Signals},
};

/// Nobody ever signals.
struct Silence;

impl Signals for Silence {
    async fn next(&mut self) -> Signal {
        std::future::pending().await
    }
}

/// Has hosts die before and after each work of a run in turn; returns how many works there are.
/// `lives` takes one host through its death and what follows, and returns how many works its run
/// came to.
pub(super) async fn at_each_death(lives: impl AsyncFn(Death) -> usize) -> usize {
    let mut work = 0;
    loop {
        let before = lives(Death::Before(work)).await;
        let after = lives(Death::After(work)).await;
        if before.max(after) <= work {
            return work;
        }
        work += 1;
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
    /// The agent's directory in there.
    place: PathBuf,
    pub(super) source: Arc<Memory>,
    pub(super) gate: Option<crate::Gate>,
    pub(super) keep: Option<usize>,
    pub(super) reserve: u64,
    pub(super) clock: fn() -> Timestamp,
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
        let directory = tempfile::tempdir().unwrap();
        let host = Self {
            place: directory.path().join("host"),
            directory,
            source: Arc::default(),
            gate: None,
            keep: None,
            reserve: 0,
            clock: Timestamp::now,
            on_failure: OnFailure::Retry,
            check_timeout: LONG,
        };
        write_script(&host.path("deploy.sh"), SCRIPT);
        host
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory as a verb sees it that somebody else than the agent runs.
    pub(super) fn visited(&self) -> crate::visit::Host<'_> {
        crate::visit::Host {
            directory: &self.place,
            state: None,
            wait: LONG,
        }
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
            gate: self.gate.clone(),
            unpacking: UnpackOptions::default(),
            keep: self.keep,
            reserve: self.reserve,
            clock: self.clock,
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

    /// Makes the script (`fail`) or the check (`sick`) say no to a release.
    pub(super) fn mark(&self, what: &str, id: &Digest) {
        fs::write(self.path(&format!("{what}-{id}")), "").unwrap();
    }

    /// Makes it say yes again.
    pub(super) fn unmark(&self, what: &str, id: &Digest) {
        fs::remove_file(self.path(&format!("{what}-{id}"))).unwrap();
    }

    /// Leaves a request as another process does.
    pub(super) fn ask(&self, request: &str) {
        fs::write(self.path("host").join(request), "").unwrap();
    }

    /// What the state file says.
    pub(super) fn state(&self) -> Record {
        serde_json::from_slice(&fs::read(self.path("host/state.json")).unwrap()).unwrap()
    }

    /// The lines of a file that a script writes; none where it has not.
    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn runs(&self) -> Vec<String> {
        self.lines("runs")
    }

    /// The same, of which none may have found half a tree, or missed the one before.
    #[track_caller]
    pub(super) fn whole_runs(&self, death: Death) -> Vec<String> {
        let runs = self.runs();
        let bad = runs.iter().any(|run| run == "half" || run == "gone");
        assert!(!bad, "{death:?}: {runs:?}");
        runs
    }

    /// When the script was run, each time, in milliseconds.
    pub(super) fn times(&self) -> Vec<u64> {
        let lines = self.lines("times");
        lines.iter().map(|line| line.parse().unwrap()).collect()
    }

    #[track_caller]
    pub(super) fn assert_on(&self, id: &Digest) {
        let state = self.state();
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
