//! A registry that refuses, stalls, lies about sizes, or sends other bytes: a host stays on the release that it has,
//! says what is wrong, asks again when it is told to, and goes on by itself when the registry is well again.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

mod faulty;

use std::time::{Duration, SystemTime};

use deploy_tests::desk::Desk;
use deploy_tests::registry::Registry;
use deploy_tests::server::Server;
use deploy_tests::wait;

use faulty::{Door, Fault, Faulty};

/// A host that has deployed its first release through a door that is about to misbehave.
struct Scene {
    agent: Server,
    desk: Desk,
    door: Faulty,
    /// Where the door leads.
    operator: Desk,
    _registry: Registry,
}

impl Scene {
    fn start() -> Self {
        let registry = Registry::start();
        let operator = Desk::stocked(registry.address());
        let door = Faulty::before(registry.address());
        let desk = Desk::at(door.address());
        let script = desk.script("deploy.sh", "cat $NEWROOT/program >>$HOME/runs");
        let flags = ["-poll", "50ms", "-stall-timeout", "1s"];
        let agent = desk.agent("project", "host", &script, &flags);
        let scene = Self {
            agent,
            desk,
            door,
            operator,
            _registry: registry,
        };
        wait::until_true("the first release", || scene.runs() == "one");
        scene
    }

    fn runs(&self) -> String {
        std::fs::read_to_string(self.desk.path("runs")).unwrap_or_default()
    }

    /// Has a new release come through the misbehaving door, until the log has a line with all these parts and so
    /// many answers went wrong; then lets the door behave, and waits for the release.
    #[track_caller]
    fn bear(&self, door: Door, fault: Fault, times: usize, parts: &[&str]) {
        self.door.misbehave(door, fault.clone());
        self.operator.change("project", "code", "v2");
        wait::until_true(&format!("{parts:?} in the log, {fault:?}"), || {
            let log = self.agent.log();
            let said = |line: &str| parts.iter().all(|part| line.contains(part));
            self.door.faults() >= times && log.lines().any(said)
        });
        assert_eq!(self.runs(), "one", "{fault:?}");
        assert_eq!(self.desk.read("host/current/program"), "one", "{fault:?}");
        // What has come of a layer may be on its way into a tree that is none yet.
        let names = std::fs::read_dir(self.desk.path("host/unpacked")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name());
        let trees = names.filter(|name| !name.to_string_lossy().starts_with('.'));
        assert_eq!(trees.count(), 1, "{fault:?}");
        self.door.heal();
        wait::until_true("the release, when the registry is well again", || {
            self.runs() == "onetwo" && self.desk.read("host/current/program") == "two"
        });
    }
}

#[test]
fn layers_that_are_not_what_they_should_be_are_refused() {
    let cases = [
        (Fault::OtherBytes, "the content has digest `sha256:"),
        (Fault::Longer, "bytes, not "),
        (Fault::Shorter, "bytes, not "),
        (Fault::Html, "does not answer as an OCI registry"),
        (Fault::Status(404, None), "it is not there"),
    ];
    side_by_side(cases, |(fault, expected)| {
        let scene = Scene::start();
        scene.bear(Door::Layers, fault, 1, &["ERROR", expected]);
    });
}

#[test]
fn layers_that_stop_coming_are_asked_for_again() {
    let cases = [
        (Fault::Stall, "sent and took nothing for 1 seconds"),
        (Fault::Break, "the connection to `127.0.0.1"),
    ];
    side_by_side(cases, |(fault, expected)| {
        let scene = Scene::start();
        let expected = ["ERROR", "cannot get blob `", expected];
        scene.bear(Door::Layers, fault, 2, &expected);
    });
}

/// Most of a case is waiting.
#[track_caller]
fn side_by_side<T: Send, const N: usize>(cases: [T; N], bear: impl Fn(T) + Sync) {
    let bear = &bear;
    std::thread::scope(|scope| {
        let threads = cases.map(|case| scope.spawn(move || bear(case)));
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[test]
fn overloaded_registry_is_left_alone_as_long_as_it_asks() {
    time_is_given(503, Door::Layers);
}

#[test]
fn registry_that_counts_requests_is_left_alone_as_long_as_it_asks() {
    time_is_given(429, Door::Manifests);
}

#[track_caller]
fn time_is_given(status: u16, door: Door) {
    let scene = Scene::start();
    // More than is waited for within a request, so that it is the agent's own decision.
    let fault = Fault::Status(status, Some("3".to_owned()));
    let status = status.to_string();
    let expected = ["ERROR", &status, "asking to be left alone for 3 seconds"];
    scene.bear(door, fault, 2, &expected);
    let pauses = scene.door.pauses();
    let short = pauses.iter().any(|pause| *pause < Duration::from_secs(3));
    assert!(!pauses.is_empty() && !short, "{pauses:?}");
}

#[test]
fn time_that_is_asked_for_may_be_a_date() {
    let scene = Scene::start();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let date = scene
        .desk
        .run("date")
        .args(["-u", "-d", &format!("@{}", now + 6)]);
    let date = date.arg("+%a, %d %b %Y %H:%M:%S GMT").ok().stdout;
    let fault = Fault::Status(503, Some(date.trim().to_owned()));
    scene.bear(Door::Layers, fault, 2, &["ERROR", "503"]);
    // Long before the date nobody asks; how long before is a matter of how long all of this took.
    let then = Duration::from_secs(now + 6);
    assert!(SystemTime::UNIX_EPOCH.elapsed().unwrap() >= then);
}
