//! What the machine and the runner say to each other: works, actions, events, phases.
//! `machine` re-exports all of it.

use std::collections::BTreeSet;

use deploy_spec::Digest;

/// A release is known by the digest of its manifest.
pub type Id = Digest;

/// How long the agent stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Until it is told to stop.
    Follow,
    /// For one look at the channel and what follows from it.
    Once,
}

/// What follows where the script fails for a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// It is run again after a pause, until it succeeds or another release comes.
    Retry,
    /// The host goes back to the release that it had.
    Undo,
}

/// How the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// The release of the channel is deployed, or the agent was told to stop following.
    Success,
    /// It is not.
    Failure,
}

/// A step of a deployment, or the one before all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Find out what is deployed and what an earlier run left unfinished.
    Recover,
    /// Bring the layers into the cache.
    Fetch(Id),
    /// Make the tree and publish it.
    Stage(Id),
    /// Ask the preparing script whether the release may come.
    Prepare {
        /// What is to come.
        new: Id,
        /// See [`Work::Script`].
        old: Option<Id>,
    },
    /// Run the script.
    Script {
        /// What it shall switch to.
        new: Id,
        /// What it finds: the deployed release, or one whose script did not succeed.
        old: Option<Id>,
    },
    /// Point `current` to it.
    Switch(Id),
    /// Ask the check whether the host is well with it.
    Check(Id),
    /// Record that the release is deployed.
    Save(Id),
    /// Remove what is no longer needed.
    Clean(Id),
    /// Bring the host back to what is deployed.
    Undo {
        /// The release whose script was begun.
        failed: Id,
        /// The deployed one, where there is one.
        back: Option<Id>,
        /// Whether the failed one goes to the bad-list.
        bad: bool,
    },
}

/// How long to wait before the channel is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pause {
    /// Not at all: the registry holds its answer back, or nothing is known yet.
    None,
    /// One poll interval.
    Poll,
    /// Longer with every failure in a row, counted from 1.
    Backoff(u32),
}

/// What is worth telling a person, each once for every change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// The channel's release is the deployed one.
    Current(Id),
    /// Another release is there and will be deployed.
    Found(Id),
    /// The failing release is no longer wanted.
    Abandoned(Id),
    /// The release is deployed.
    Deployed(Id),
    /// The registry does not answer.
    SourceLost,
    /// It answers again.
    SourceBack,
    /// The channel is not there.
    ChannelMissing,
    /// An earlier run was ended between script and record.
    Finishing(Id),
    /// The channel's release failed before: it waits for a newer one, or to be forgiven.
    Bad(Id),
    /// This release, which was deployed before, is to be deployed again.
    GoingBack(Id),
    /// The host is brought back from this release.
    Undoing(Id),
    /// It has been brought back.
    RolledBack {
        /// From this release.
        failed: Id,
        /// To this one; to none where none was deployed.
        back: Option<Id>,
    },
}

/// What the runner has to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Do this, alone, and answer [`Event::Done`], [`Event::Recovered`], [`Event::Failed`] or
    /// [`Event::Refused`].
    Work(Work),
    /// Look at the channel until it is something else than the known release.
    Watch {
        /// What is known of it.
        known: Option<Id>,
        /// How long to wait first.
        pause: Pause,
    },
    /// Answer [`Event::Retry`] after a pause that grows with the failures.
    Retry {
        /// Failures in a row, counted from 1.
        failures: u32,
        /// What is tried again.
        resume: Resume,
    },
    /// End the work that is being done, if it can be ended.
    Interrupt,
    /// Tell a person.
    Report(Report),
}

/// What an earlier run left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// What is deployed.
    pub deployed: Option<Id>,
    /// The release whose script was begun and which was neither recorded nor undone.
    pub unfinished: Option<Id>,
    /// What has to be gone on with before anything else, and where.
    pub resume: Option<(Id, Resume)>,
    /// What is not to be deployed.
    pub bad: BTreeSet<Id>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The first work is done.
    Recovered(Recovered),
    /// The work is done.
    Done,
    /// The work could not be done.
    Failed,
    /// The operator's script said no.
    Refused,
    /// The channel is this release.
    Seen(Id),
    /// The channel is what it was.
    Unchanged {
        /// Whether the registry held its answer back.
        waited: bool,
    },
    /// There is no such channel.
    Missing,
    /// The channel could not be looked at.
    SourceFailed,
    /// The pause before a retry is over.
    Retry,
    /// The bad-list has been cleared.
    Forgiven,
    /// Somebody wants this release, which was deployed before, in the place of the deployed one.
    GoBack(Id),
    /// The agent shall end.
    Shutdown,
}

/// What the agent is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Finding out where an earlier run stopped.
    Recovering,
    /// Nothing to do until the channel moves.
    Watching,
    /// Something failed.
    Waiting {
        /// What shall be deployed, or undone.
        target: Id,
        /// How often it failed in a row.
        failures: u32,
        /// Where to go on.
        resume: Resume,
    },
    /// A deployment.
    Deploying {
        /// What is deployed, or undone.
        target: Id,
        /// How often it failed in a row before.
        failures: u32,
        /// How far it is.
        step: Step,
    },
    /// The end.
    Stopped(Exit),
}

/// Where a deployment goes on after a failure or a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resume {
    /// At its beginning.
    Fetch,
    /// Behind the script, which has succeeded.
    Switch,
    /// Behind the check, which has passed.
    Save,
    /// On the way back.
    Undo,
}

impl Resume {
    /// Returns the step that is done first.
    pub(crate) fn step(self) -> Step {
        match self {
            Self::Fetch => Step::Fetch,
            Self::Switch => Step::Switch,
            Self::Save => Step::Save,
            Self::Undo => Step::Undo,
        }
    }

    /// Whether another release may take the place of what is waiting.
    pub(crate) fn gives_way(self) -> bool {
        matches!(self, Self::Fetch | Self::Undo)
    }
}

/// The steps of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// See [`Work::Fetch`].
    Fetch,
    /// See [`Work::Stage`].
    Stage,
    /// See [`Work::Prepare`].
    Prepare,
    /// See [`Work::Script`].
    Script,
    /// See [`Work::Switch`].
    Switch,
    /// See [`Work::Check`].
    Check,
    /// See [`Work::Save`].
    Save,
    /// See [`Work::Clean`].
    Clean,
    /// See [`Work::Undo`].
    Undo,
}

impl Step {
    /// Whether a script of the operator is asked in it.
    pub(crate) fn may_be_refused(self) -> bool {
        matches!(
            self,
            Self::Prepare | Self::Script | Self::Check | Self::Undo
        )
    }
}
