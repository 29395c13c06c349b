//! The machine together with a host that dies at any moment: a small model of what `deployer`
//! leaves on the disk, what the next run finds there, and what holds in all of it.

use std::{collections::HashSet, sync::OnceLock};

use super::*;

/// What the host's services run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Services {
    /// What the script has switched them to.
    On(Option<Id>),
    /// Nobody knows: a script was begun for this release.
    Between(Id),
}

/// What the disk and the services are like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    services: Services,
    current: Option<Id>,
    /// The state file.
    saved: Option<Id>,
    /// The release whose check has passed, since its script was begun.
    checked: Option<Id>,
    /// The journal: what the next run goes on with.
    resume: Option<(Id, Resume)>,
    unfinished: Option<Id>,
    /// The journal: what somebody wants back.
    wanted: Option<Id>,
    bad: BTreeSet<Id>,
}

impl World {
    fn on(deployed: Option<Id>) -> Self {
        Self {
            services: Services::On(deployed.clone()),
            current: deployed.clone(),
            saved: deployed,
            checked: None,
            resume: None,
            unfinished: None,
            wanted: None,
            bad: BTreeSet::new(),
        }
    }

    /// What `Work::Recover` finds and mends.
    fn recover(&mut self) -> Recovered {
        if self.resume.is_none() && self.saved.is_some() {
            self.current = self.saved.clone();
        }
        Recovered {
            deployed: self.saved.clone(),
            unfinished: self.unfinished.clone(),
            resume: self.resume.clone().or_else(|| {
                let wanted = self.wanted.clone();
                wanted.map(|wanted| (wanted, Resume::Fetch))
            }),
            bad: self.bad.clone(),
        }
    }

    /// What is so from the moment on that a work is begun.
    fn begin(&mut self, work: &Work) {
        match work {
            Work::Recover | Work::Clean(_) => {}
            Work::Fetch(id) => {
                assert!(!self.bad.contains(id), "a bad release is begun");
                self.resume = None;
                self.wanted = self.wanted.take().filter(|wanted| wanted == id);
            }
            Work::Stage(_) | Work::Prepare { .. } => self.resume = None,
            Work::Script { new, old } => {
                assert!(!self.bad.contains(new), "a bad release is begun");
                if self.unfinished.is_none() && self.saved.as_ref() != Some(new) {
                    assert_eq!(self.services, Services::On(old.clone()));
                }
                self.services = Services::Between(new.clone());
                self.unfinished = Some(new.clone());
                self.checked = None;
            }
            Work::Switch(id) => assert_eq!(self.services, Services::On(Some(id.clone()))),
            Work::Check(id) => assert_eq!(self.current.as_ref(), Some(id)),
            Work::Save(id) => {
                assert_eq!(self.current.as_ref(), Some(id));
                assert_eq!(self.services, Services::On(Some(id.clone())));
                assert_eq!(self.checked.as_ref(), Some(id), "saved unchecked");
            }
            Work::Undo { failed, back, bad } => {
                assert_eq!(self.saved, *back, "the way back is to what is deployed");
                self.resume = Some((failed.clone(), Resume::Undo));
                self.unfinished = Some(failed.clone());
                self.wanted = None;
                if *bad {
                    self.bad.insert(failed.clone());
                }
                self.current = back.clone();
                if let Some(back) = back {
                    self.services = Services::Between(back.clone());
                }
            }
        }
    }

    /// What is so where it ends in the middle.
    fn half_done(&mut self, work: &Work) {
        self.begin(work);
        if let Work::Save(id) = work {
            self.saved = Some(id.clone());
        }
    }

    /// What is so once it is done.
    fn done(&mut self, work: &Work) {
        match work {
            Work::Recover | Work::Fetch(_) | Work::Stage(_) | Work::Prepare { .. } => {}
            Work::Script { new, .. } => {
                self.services = Services::On(Some(new.clone()));
                self.resume = Some((new.clone(), Resume::Switch));
            }
            Work::Switch(id) => self.current = Some(id.clone()),
            Work::Check(id) => {
                self.checked = Some(id.clone());
                self.resume = Some((id.clone(), Resume::Save));
            }
            Work::Save(id) => {
                self.saved = Some(id.clone());
                (self.resume, self.unfinished, self.wanted) = (None, None, None);
            }
            Work::Clean(_) => self.resume = None,
            Work::Undo { back, .. } => {
                self.services = Services::On(back.clone());
                (self.resume, self.unfinished) = (None, None);
            }
        }
    }
}

/// The machine, the world, and the work that is begun.
type Joint = (State, World, Option<Work>);

fn step(state: &State, world: &World, event: Event) -> Joint {
    let (mut state, actions) = state.clone().step(event);
    // How often something failed decides nothing but the pause.
    match &mut state.phase {
        Phase::Deploying { failures, .. } => *failures = 0,
        Phase::Waiting { failures, .. } => *failures = 1,
        _ => {}
    }
    let work = actions.into_iter().find_map(|action| match action {
        Action::Work(work) => Some(work),
        _ => None,
    });
    (state, world.clone(), work)
}

fn started(world: World) -> Joint {
    let (state, _) = State::start(Mode::Follow, OnFailure::Undo);
    (state, world, Some(Work::Recover))
}

/// Everything that can come next: success, failures, refusals, whatever the channel is, an operator who
/// forgives, and death at any point of a work.
fn nexts((state, world, work): &Joint) -> Vec<Joint> {
    let mut nexts = Vec::new();
    if let Some(work) = work {
        let mut begun = world.clone();
        begun.begin(work);
        let (mut half, mut done) = (world.clone(), begun.clone());
        half.half_done(work);
        done.done(work);
        // Dead before it, in it, behind it.
        for world in [world, &begun, &half, &done] {
            nexts.push(started(world.clone()));
        }
        if *work == Work::Recover {
            let mut found = world.clone();
            let event = Event::Recovered(found.recover());
            nexts.push(step(state, &found, event));
            return nexts;
        }
        nexts.push(step(state, &done, Event::Done));
        nexts.push(step(state, world, Event::Failed));
        nexts.push(step(state, &begun, Event::Failed));
        if refuses(work) {
            nexts.push(step(state, &begun, Event::Refused));
        }
        return nexts;
    }
    if matches!(state.phase, Phase::Waiting { .. }) {
        nexts.push(step(state, world, Event::Retry));
    }
    let mut forgiven = world.clone();
    forgiven.bad.clear();
    nexts.push(step(state, &forgiven, Event::Forgiven));
    let gives_way = match &state.phase {
        Phase::Waiting { resume, .. } => resume.gives_way(),
        phase => *phase == Phase::Watching,
    };
    // The one before is the first one, here.
    let before = id('a');
    if let Some(saved) = &world.saved
        && gives_way
        && *saved != before
        && !state.bad.contains(&before)
    {
        let mut asked = world.clone();
        asked.bad.insert(saved.clone());
        asked.wanted = Some(before.clone());
        nexts.push(step(state, &asked, Event::GoBack(before)));
    }
    nexts.extend(['a', 'b', 'c'].map(|letter| step(state, world, Event::Seen(id(letter)))));
    nexts
}

fn refuses(work: &Work) -> bool {
    matches!(
        work,
        Work::Prepare { .. } | Work::Script { .. } | Work::Check(_) | Work::Undo { .. }
    )
}

/// Returns everything that can be reached from a fresh host and from one that runs release a.
/// The world itself asserts what no work may be begun without.
///
/// Failing scripts are undone: where they are only run again, nothing follows that does not follow
/// here from a script that could not be run.
fn explore() -> &'static HashSet<Joint> {
    static JOINTS: OnceLock<HashSet<Joint>> = OnceLock::new();
    JOINTS.get_or_init(|| {
        let first = [None, Some(id('a'))].map(|deployed| started(World::on(deployed)));
        let mut met = HashSet::from(first.clone());
        let mut open = Vec::from(first);
        while let Some(joint) = open.pop() {
            for next in nexts(&joint) {
                if !met.contains(&next) {
                    met.insert(next.clone());
                    open.push(next);
                }
            }
        }
        met
    })
}

/// What follows when from now on everything works and the channel is release c.
fn good_day(joint: &Joint) -> Joint {
    let (state, world, work) = joint;
    match (work, &state.phase) {
        (Some(Work::Recover), _) => {
            let mut found = world.clone();
            let event = Event::Recovered(found.recover());
            step(state, &found, event)
        }
        (Some(work), _) => {
            let mut done = world.clone();
            done.begin(work);
            done.done(work);
            step(state, &done, Event::Done)
        }
        (None, Phase::Waiting { .. }) => step(state, world, Event::Retry),
        (None, _) => step(state, world, Event::Seen(id('c'))),
    }
}

#[test]
fn host_that_dies_at_any_moment_ends_on_the_newest_good_release() {
    let newest = id('c');
    let mut ends = HashSet::new();
    for first in explore() {
        let mut way = vec![first.clone()];
        loop {
            let now = way.last().unwrap();
            if ends.contains(now) {
                break;
            }
            assert!(way.len() < 40, "no end from {first:?}");
            let (state, world, work) = now;
            if state.phase == Phase::Watching && state.seen.as_ref() == Some(&newest) {
                assert_eq!(*work, None);
                // All of the host agrees on what runs.
                let on = Services::On(world.saved.clone());
                assert_eq!(world.services, on, "{first:?}");
                assert_eq!(world.current, world.saved, "{first:?}");
                assert_eq!(world.unfinished, None, "{first:?}");
                assert_eq!(state.deployed, world.saved, "{first:?}");
                // What was condemned and could not be written is bad for this run at least.
                let bad = state.bad.contains(&newest);
                let on_newest = world.saved.as_ref() == Some(&newest);
                assert!(on_newest || bad, "not on the newest from {first:?}");
                break;
            }
            let next = good_day(now);
            way.push(next);
        }
        ends.extend(way);
    }
}

#[test]
fn what_the_machine_knows_is_what_the_next_run_would_find() {
    assert!(explore().len() > 1000, "{} states", explore().len());
    for (state, world, work) in explore() {
        if work.is_some() || state.phase == Phase::Recovering {
            continue;
        }
        assert_eq!(state.deployed, world.saved, "{state:?} {world:?}");
        assert!(state.bad.is_superset(&world.bad), "{state:?} {world:?}");
        if state.phase == Phase::Watching && state.unfinished.is_none() {
            let on = Services::On(world.saved.clone());
            assert_eq!(world.services, on, "{state:?}");
            assert_eq!(world.current, world.saved, "{state:?} {world:?}");
        }
    }
}
