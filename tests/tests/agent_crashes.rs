//! `kill -9` of the agent at any moment: a host's script only ever sees complete trees, and the host ends on the newest
//! good release.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::peer_or_skip;
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;
use deploy_tests::releases::{CHECK, assert_on_release, assert_only_whole_trees, push_release};
use rand::RngExt;

fn long() -> bool {
    std::env::var_os("DEPLOY_TESTS_LONG").is_some()
}

#[test]
fn agent_killed_at_random_moments_ends_on_the_newest_release() {
    let registry = Registry::start_with(&["-maxver", "0"]);
    let desk = Desk::at(registry.address());
    let script = desk.script("deploy.sh", CHECK);
    push_release(&desk, 0, &[]);
    for round in 1..=if long() { 200 } else { 12 } {
        push_release(&desk, round, &[]);
        let mut agent = desk.agent("project", "host", &script, &["-poll", "100ms"]);
        // The moment is what is random here: nothing is waited for.
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(1..250)));
        agent.kill();
        assert_only_whole_trees(&desk);
        if round % 4 == 0 {
            desk.agent_once("project", "host", &script).ok();
            assert_on_release(&desk, &format!("v{round}"));
        }
    }
}

/// What refuses a release that is refused however long it is asked need not be asked for long.
const SHORT: [&str; 2] = ["-check-timeout", "100ms"];

#[test]
fn agent_killed_at_random_moments_with_releases_that_fail_ends_on_the_newest_good_one() {
    let registry = Registry::start_with(&["-maxver", "0"]);
    let desk = Desk::at(registry.address());
    let scripts = Scripts::of(&desk);
    push_release(&desk, 0, &[]);
    let begun = Instant::now();
    scripts.once(&desk, &[]).ok();
    // From before it begins until after it has gone back.
    let longest = begun.elapsed() * 2;
    let mut good = 0;
    for round in 1..=if long() { 200 } else { 9 } {
        let wrong: &[&str] = [&[][..], &["broken"], &["sick"]][round % 3];
        push_release(&desk, round, wrong);
        // A good release has all the time that a busy machine takes to say so.
        let time = if wrong.is_empty() { &[][..] } else { &SHORT };
        let following = scripts.flags.iter().map(String::as_str);
        let following = following.chain(time.iter().copied());
        let following: Vec<&str> = following.chain(["-poll", "100ms"]).collect();
        let mut agent = desk.agent("project", "host", &scripts.script, &following);
        // The moment is what is random here: nothing is waited for.
        std::thread::sleep(rand::rng().random_range(Duration::ZERO..longest));
        agent.kill();
        assert_only_whole_trees(&desk);
        let once = scripts.once(&desk, time);
        if wrong.is_empty() {
            once.ok();
            good = round;
        } else {
            once.code(1);
        }
        assert_on_release(&desk, &format!("v{good}"));
        assert_eq!(desk.read("switched"), format!("v{good}"));
    }
}

/// The scripts of a host that looks at everything: what flags name them.
struct Scripts {
    script: PathBuf,
    flags: Vec<String>,
}

impl Scripts {
    /// Scripts that check both trees whenever they are asked. The one that switches writes down what to; the check
    /// refuses releases with a file `sick`, the script ones with a file `broken`.
    fn of(desk: &Desk) -> Self {
        let write = |name: &str, more: &str| desk.script(name, &format!("{CHECK}\n{more}"));
        let script = write(
            "deploy.sh",
            r#"cat "$NEWROOT/release" >"$HOME/switched"; [ ! -e "$NEWROOT/broken" ]"#,
        );
        let prepare = write("prepare.sh", "true");
        let check = write(
            "check.sh",
            r#"cmp -s "$HOME/host/current/release" "$NEWROOT/release" && [ ! -e "$NEWROOT/sick" ]"#,
        );
        let flags = ["-prepare", "-check", "-keep=0", "-rollback"];
        let mut flags = flags.map(str::to_owned).to_vec();
        flags.insert(1, prepare.display().to_string());
        flags.insert(3, check.display().to_string());
        Self { script, flags }
    }

    /// Runs the agent once.
    fn once(&self, desk: &Desk, more: &[&str]) -> Run {
        let flags = self.flags.iter().map(String::as_str);
        desk.agent_once("project", "host", &self.script)
            .args(flags.chain(more.iter().copied()))
    }
}

/// The system calls with which something on disk becomes another state.
const STEPS: &str = "openat,write,fsync,fdatasync,rename,renameat,renameat2,mkdirat,mkdir,linkat,symlinkat,symlink,\
                     unlink,unlinkat,rmdir,fchmod,fchmodat,fchown,fchownat,lchown,utimensat,execve";

#[test]
fn agent_killed_at_every_step_ends_on_the_newest_release() {
    let strace = peer_or_skip!(
        "agent_killed_at_every_step_ends_on_the_newest_release",
        "strace"
    );
    let registry = Registry::start_with(&["-maxver", "0"]);
    let desk = Desk::at(registry.address());
    let scripts = Scripts::of(&desk);
    push_release(&desk, 0, &[]);
    scripts.once(&desk, &[]).ok();
    let deaths = at_every_step(STEPS, |step, release| {
        push_release(&desk, release, &[]);
        let killed = killed_at(&desk, &strace, &scripts, &[], step);
        assert_only_whole_trees(&desk);
        scripts.once(&desk, &[]).ok();
        assert_on_release(&desk, &format!("v{release}"));
        assert_eq!(desk.read("switched"), format!("v{release}"), "{step:?}");
        killed
    });
    assert!(deaths > 10, "the agent was killed at {deaths} steps only");
}

/// The calls between which the way back is different from the way there: with these the journal is written, the host
/// switched and a script run. A soak is killed before each of them.
const STEPS_BACK: &str = "fsync,fdatasync,rename,renameat,renameat2,symlink,symlinkat,execve";

#[test]
fn agent_killed_at_every_step_with_a_release_that_fails_ends_on_the_one_before() {
    let strace = peer_or_skip!(
        "agent_killed_at_every_step_with_a_release_that_fails_ends_on_the_one_before",
        "strace"
    );
    let registry = Registry::start_with(&["-maxver", "0"]);
    let desk = Desk::at(registry.address());
    let scripts = Scripts::of(&desk);
    push_release(&desk, 0, &[]);
    scripts.once(&desk, &[]).ok();
    let mut last = 0;
    let deaths = at_every_step(STEPS_BACK, |step, release| {
        last = release;
        let wrong = if release % 2 == 0 { "sick" } else { "broken" };
        push_release(&desk, release, &[wrong]);
        let killed = killed_at(&desk, &strace, &scripts, &SHORT, step);
        assert_only_whole_trees(&desk);
        // Whatever is left is finished by the first run, and then it is bad.
        scripts.once(&desk, &SHORT).code(1);
        let answer = scripts.once(&desk, &SHORT).code(1);
        assert!(answer.stderr.contains("is not deployed again"), "{answer}");
        assert_on_release(&desk, "v0");
        assert_eq!(desk.read("switched"), "v0", "{step:?}");
        killed
    });
    assert!(deaths > 5, "the agent was killed at {deaths} steps only");
    let healed = last + 1;
    push_release(&desk, healed, &[]);
    scripts.once(&desk, &[]).ok();
    assert_on_release(&desk, &format!("v{healed}"));
}

/// The moment at which an agent is killed: before it makes a system call of this kind for the `number`th time.
#[derive(Debug)]
struct Step<'a> {
    call: &'a str,
    number: usize,
}

/// Plays a round for every step of these kinds of calls, with the number of the round, from one on; a round says whether
/// the agent was killed in it. Returns how often it was.
fn at_every_step(calls: &str, mut round: impl FnMut(&Step, usize) -> bool) -> usize {
    let (mut rounds, mut deaths) = (0, 0);
    for call in calls.split(',') {
        // From the first call of a kind to the one that is never made; the distance grows where there are thousands, as
        // the first ones differ most.
        let mut number = 1;
        loop {
            rounds += 1;
            if !round(&Step { call, number }, rounds) {
                break;
            }
            deaths += 1;
            number += match (long(), STEPS_BACK.split(',').any(|other| other == call)) {
                (false, _) => 2 + 4 * number,
                (true, false) => 1 + number / 8,
                (true, true) => 1,
            };
        }
    }
    deaths
}

/// Runs the agent until one of its threads comes to the step, where it is killed; false when it came to its end before.
fn killed_at(desk: &Desk, strace: &Path, scripts: &Scripts, flags: &[&str], step: &Step) -> bool {
    let Step { call, number } = step;
    let (host, agent) = (desk.path("host"), Program::Agent.path());
    let answer = desk
        .run(strace)
        // The script's own processes are followed too: one that dies is a script that failed.
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
        ])
        .arg(format!("inject={call}:signal=KILL:when={number}"))
        .arg(agent)
        .args(["-addr", desk.address(), "-name", "project", "-once", "-dir"])
        .arg(&host)
        .arg("-script")
        .arg(&scripts.script)
        .arg("-state")
        .arg(host.join("state.json"))
        .args(scripts.flags.iter().map(String::as_str))
        .args(flags.iter().copied())
        .answer()
        .unwrap();
    assert!(matches!(answer.code, 0 | 1 | 137), "{answer}");
    answer.code == 137
}
