//! What the machine and the runner say to each other: works, actions, events, phases.
//! `machine` re-exports all of it.

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
    /// Run the script.
    Script {
        /// What it shall switch to.
        new: Id,
        /// What it finds: the deployed release, or one whose script did not succeed.
        old: Option<Id>,
    },
    /// Record that the release is deployed.
    Save(Id),
    /// Point `current` to it.
    Switch(Id),
    /// Remove what is no longer needed.
    Clean(Id),
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
    /// What failed is tried again after a pause, this many failures in a row.
    Retrying(Id, u32),
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
}

/// What the runner has to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Do this, alone, and answer [`Event::Done`], [`Event::Recovered`] or [`Event::Failed`].
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
    },
    /// End the work that is being done, if it can be ended.
    Interrupt,
    /// Tell a person.
    Report(Report),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The first work is done.
    Recovered {
        /// What is deployed.
        deployed: Option<Id>,
        /// The release whose script was begun and is not known to have succeeded.
        unfinished: Option<Id>,
        /// The release whose script has succeeded and which is not recorded yet.
        uncommitted: Option<Id>,
    },
    /// The work is done.
    Done,
    /// The work failed.
    Failed,
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
    /// The agent shall end.
    Shutdown,
}

/// What the agent is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Finding out where an earlier run stopped.
    Recovering,
    /// Nothing to do until the channel moves.
    Watching {
        /// What the channel was when last seen.
        seen: Option<Id>,
    },
    /// Something failed.
    Waiting {
        /// What shall be deployed.
        target: Id,
        /// How often it failed in a row.
        failures: u32,
        /// Where to go on.
        resume: Resume,
    },
    /// A deployment.
    Deploying {
        /// What is deployed.
        target: Id,
        /// How often it failed in a row before.
        failures: u32,
        /// How far it is.
        step: Step,
    },
    /// The end.
    Stopped(Exit),
}

/// Where a deployment goes on after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resume {
    /// At its beginning.
    Fetch,
    /// Behind the script, which has succeeded.
    Save,
}

/// The steps of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// See [`Work::Fetch`].
    Fetch,
    /// See [`Work::Stage`].
    Stage,
    /// See [`Work::Script`].
    Script,
    /// See [`Work::Save`].
    Save,
    /// See [`Work::Switch`].
    Switch,
    /// See [`Work::Clean`].
    Clean,
}
