//! A host whose file systems are too small, full, out of inodes or read-only: no half tree, a message that says what
//! is missing where, and the release comes by itself when there is room.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

mod mount;

use deploy_tests::archive::{self, Archive};
use deploy_tests::desk::Desk;
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;
use deploy_tests::server::Server;
use deploy_tests::{oci, peer_or_skip, wait};
use rand::RngExt;
use serde_json::json;

use mount::Mount;

const MIB: usize = 1 << 20;

/// Bytes that no compression makes fewer.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

/// Makes the next release of `project`: an image of one layer compressed with gzip, as a builder of images would
/// push it. Nothing says how large it is unpacked.
fn push_foreign(desk: &Desk, tar: &[u8]) {
    let layer = archive::gzip(tar);
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [oci::digest(tar)] },
    }));
    let config = config.unwrap();
    for blob in [&config, &layer] {
        oci::push_blob(desk.address(), "configs/project", blob).unwrap();
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": oci::MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": oci::digest(&config),
            "size": config.len(),
        },
        "layers": [{ "mediaType": oci::LAYER, "digest": oci::digest(&layer), "size": layer.len() }],
    });
    oci::push_manifest(desk.address(), "configs/project", "latest", &manifest).unwrap();
}

/// Makes the next release of `project` of one component, whose version says how large it is unpacked.
fn push_own(desk: &Desk, version: &str, files: &[(String, Vec<u8>)]) {
    let directory = format!("push/code/{version}");
    desk.write(&format!("{directory}/program"), version);
    for (name, content) in files {
        desk.write(&format!("{directory}/{name}"), content);
    }
    desk.deployctl(["push", &format!("code:{version}"), &directory])
        .ok();
    desk.change("project", "code", version);
}

/// The agent of the host, which has deployed its first release, and its script, which counts its runs.
fn follow(desk: &Desk, flags: &[&str]) -> Server {
    let script = desk.script(
        "deploy.sh",
        "echo \"$NEWID\" >>$HOME/runs; ls -A $NEWROOT >/dev/null",
    );
    let flags = [&["-poll", "50ms"], flags].concat();
    let agent = desk.agent("project", "host", &script, &flags);
    wait::until_true("the first release", || program(desk) == "one");
    agent
}

fn program(desk: &Desk) -> String {
    std::fs::read_to_string(desk.path("host/current/program")).unwrap_or_default()
}

/// Waits until the log has a line with all of these, and checks that the host is as it was.
#[track_caller]
fn refused(desk: &Desk, agent: &Server, parts: &[&str]) {
    wait::until_true(&format!("{parts:?} in the log"), || {
        let log = agent.log();
        log.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    });
    assert_eq!(program(desk), "one");
    assert_eq!(desk.read("runs").lines().count(), 1);
    // What is being tried is out of sight, and has no tree's name.
    let trees = std::fs::read_dir(desk.path("host/unpacked")).unwrap();
    let trees = trees.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let trees: Vec<_> = trees.filter(|name| !name.starts_with('.')).collect();
    assert_eq!(trees.len(), 1, "{trees:?}");
}

#[track_caller]
fn comes(desk: &Desk, expected: &str) {
    wait::until_true("the next release, when the cause is gone", || {
        program(desk) == expected
    });
    assert_eq!(desk.read("runs").lines().count(), 2);
}

/// A stocked desk whose host has a file system of its own, and the file system.
fn host(test: &str, registry: &Registry, directory: &str, options: &str) -> Option<(Desk, Mount)> {
    let desk = Desk::stocked(registry.address());
    let mount = Mount::tmpfs(test, desk.path(directory), options)?;
    Some((desk, mount))
}

#[test]
fn release_that_does_not_fit_is_refused_before_its_first_byte() {
    let registry = Registry::start();
    let name = "release_that_does_not_fit_is_refused_before_its_first_byte";
    let Some((desk, mount)) = host(name, &registry, "host", "size=8m") else {
        return;
    };
    let agent = follow(&desk, &["-reserve", "2MiB"]);
    push_own(&desk, "large", &[("noise".to_owned(), noise(5 * MIB))]);
    let path = desk.path("host/unpacked").display().to_string();
    refused(
        &desk,
        &agent,
        &[
            "too little room for release `sha256:",
            &path,
            "free",
            "to fetch",
            "2.0 MiB in reserve",
            "hint: ",
        ],
    );
    let cached = std::fs::read_dir(desk.path("host/cache/sha256")).unwrap();
    let cached = cached.map(|entry| entry.unwrap().metadata().unwrap().len());
    assert!(cached.sum::<u64>() < MIB as u64, "a part of it was fetched");
    mount.change("size=32m");
    comes(&desk, "large");
}

#[test]
fn cache_and_trees_may_be_on_two_file_systems() {
    let registry = Registry::start();
    let name = "cache_and_trees_may_be_on_two_file_systems";
    let Some((desk, cache)) = host(name, &registry, "host/cache", "size=2m") else {
        return;
    };
    let Some(trees) = Mount::tmpfs(name, desk.path("host/unpacked"), "size=2m") else {
        return;
    };
    let agent = follow(&desk, &["-reserve", "1MiB"]);
    push_own(&desk, "large", &[("noise".to_owned(), noise(3 * MIB))]);
    let wanted = |mount: &Mount, what: &str| {
        let path = format!("`{}`", mount.path().display());
        refused(&desk, &agent, &["too little room", &path, what]);
    };
    wanted(&cache, "to fetch");
    cache.change("size=16m");
    wanted(&trees, "unpacked");
    trees.change("size=16m");
    comes(&desk, "large");
}

#[test]
fn layer_that_nobody_said_to_be_so_large_is_measured_or_fills_the_disk_and_leaves_nothing() {
    // Zeros become so few bytes that 16 MiB look as if they would surely fit, and 64 MiB not so surely.
    for (mebibytes, expected) in [
        (16, ["cannot unpack release", "No space left on device"]),
        (64, ["too little room for release", "64.0 MiB unpacked"]),
    ] {
        let registry = Registry::start();
        let name = "layer_that_nobody_said_to_be_so_large_is_measured_or_fills_the_disk_and_leaves_nothing";
        let Some((desk, mount)) = host(name, &registry, "host", "size=4m") else {
            return;
        };
        let agent = follow(&desk, &["-reserve", "0"]);
        let mut large = Archive::new().file("program", "large");
        for number in 0..mebibytes {
            large = large.file(&format!("{number}"), vec![0; MIB]);
        }
        push_foreign(&desk, &large.tar());
        refused(&desk, &agent, &expected);
        mount.change("size=256m");
        comes(&desk, "large");
    }
}

#[test]
fn inodes_that_run_out_are_said_to_be_what_is_missing() {
    let files: Vec<_> = (0..600)
        .map(|number| (format!("d{}/{number}", number % 7), Vec::new()))
        .collect();
    let tar = || {
        let archive = Archive::new().file("program", "many");
        let archive = files
            .iter()
            .fold(archive, |archive, (name, _)| archive.file(name, ""));
        archive.tar()
    };
    let own = |desk: &Desk| push_own(desk, "many", &files);
    let foreign = |desk: &Desk| push_foreign(desk, &tar());
    type Push<'a> = &'a dyn Fn(&Desk);
    let cases: [(Push<'_>, &str, &[&str]); 2] = [
        (
            &own,
            "1MiB",
            &["too little room for release", "inodes are free", "wanted"],
        ),
        (
            &foreign,
            "0",
            &["cannot unpack release", "no inode is left"],
        ),
    ];
    for (push, reserve, expected) in cases {
        let registry = Registry::start();
        let name = "inodes_that_run_out_are_said_to_be_what_is_missing";
        let Some((desk, mount)) = host(name, &registry, "host", "size=32m,nr_inodes=150") else {
            return;
        };
        let agent = follow(&desk, &["-reserve", reserve]);
        push(&desk);
        refused(&desk, &agent, expected);
        mount.change("nr_inodes=3000");
        comes(&desk, "many");
    }
}

#[test]
fn trees_on_a_file_system_that_became_read_only_stay_as_they_are() {
    let registry = Registry::start();
    let name = "trees_on_a_file_system_that_became_read_only_stay_as_they_are";
    let Some((desk, mount)) = host(name, &registry, "host/unpacked", "size=8m") else {
        return;
    };
    let agent = follow(&desk, &["-reserve", "1MiB"]);
    mount.change("ro");
    desk.change("project", "code", "v2");
    let path = mount.path().display().to_string();
    refused(&desk, &agent, &["Read-only file system", &path]);
    mount.change("rw");
    comes(&desk, "two");
}

/// Whether the host's agent has nothing to do.
fn is_idle(desk: &Desk) -> bool {
    let status = desk.run(Program::Agent.path());
    let status = status
        .args(["status", "-dir", "host", "-output", "json"])
        .ok();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    status["step"] == "idle"
}

#[test]
fn agent_whose_directory_becomes_read_only_goes_on_when_it_is_not_any_more() {
    const TEST: &str = "agent_whose_directory_becomes_read_only_goes_on_when_it_is_not_any_more";
    /// Says where it is, and waits to be let on where somebody holds it there.
    fn gate(name: &str) -> String {
        format!(
            "echo \"$NEWID\" >>$HOME/{name}; while [ -e $HOME/hold-{name} ]; do sleep 0.02; done"
        )
    }
    // Before anything is begun, after the script has run, and after the switch.
    for (held, live) in [
        (None, "one"),
        (Some("runs"), "one"),
        (Some("checks"), "two"),
    ] {
        let registry = Registry::start();
        let desk = Desk::stocked(registry.address());
        let [script, check] =
            ["runs", "checks"].map(|name| desk.script(&format!("{name}.sh"), &gate(name)));
        let check = check.display().to_string();
        let flags = ["-poll", "50ms", "-check", &check];
        let agent = desk.agent("project", "host", &script, &flags);
        wait::until_true("the first release", || {
            desk.path("host/state.json").exists()
        });
        let lines = |name: &str| desk.read(name).lines().count();
        if let Some(name) = held {
            desk.write(&format!("hold-{name}"), "");
            desk.change("project", "code", "v2");
            wait::until_true("the second release to be begun", || lines(name) == 2);
        }
        let path = desk.path("host");
        let Some(mount) = Mount::read_only(TEST, &path) else {
            return;
        };
        match held {
            Some(name) => std::fs::remove_file(desk.path(&format!("hold-{name}"))).unwrap(),
            None => desk.change("project", "code", "v2"),
        }
        let path = path.display().to_string();
        wait::until_true("the reason in the log", || {
            let log = agent.log();
            log.lines()
                .any(|line| line.contains("Read-only file system") && line.contains(&path))
        });
        assert_eq!(program(&desk), live);
        let status = desk
            .run(Program::Agent.path())
            .args(["status", "-dir", "host"]);
        assert!(status.ok().stdout.contains("agent: runs"));
        drop(mount);
        wait::until_true("the second release, when it can be written again", || {
            program(&desk) == "two" && is_idle(&desk)
        });
        // A script that had succeeded is not run again.
        assert_eq!(lines("runs"), 2);
    }
}

#[test]
fn directory_that_cannot_be_written_is_named_at_the_start() {
    let registry = Registry::start();
    let name = "directory_that_cannot_be_written_is_named_at_the_start";
    let Some((desk, mount)) = host(name, &registry, "host", "size=8m") else {
        return;
    };
    let script = desk.script("deploy.sh", "true");
    let once = || {
        desk.agent_once("project", "host", &script)
            .arg("-reserve=1MiB")
    };
    once().ok();
    desk.change("project", "code", "v2");
    mount.change("ro");
    let answer = once().code(1);
    let path = desk.path("host").display().to_string();
    assert!(
        answer.stderr.contains("Read-only file system") && answer.stderr.contains(&path),
        "{answer}"
    );
    assert_eq!(program(&desk), "one");
    mount.change("rw");
    once().ok();
    assert_eq!(program(&desk), "two");
}

#[test]
fn large_file_that_stays_the_same_takes_no_more_room() {
    const TEST: &str = "large_file_that_stays_the_same_takes_no_more_room";
    let mkfs = peer_or_skip!(TEST, "mkfs.btrfs");
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let image = Mount::image(TEST, desk.path("host"), &mkfs, 256 * MIB as u64);
    let Some(_mount) = image else { return };
    let script = desk.script("deploy.sh", "true");
    let large = ("data/large".to_owned(), noise(8 * MIB));
    push_own(&desk, "large-1", std::slice::from_ref(&large));
    let answer = desk.agent_once("project", "host", &script).ok();
    assert!(answer.stderr.contains("taken_over_bytes=0"), "{answer}");
    // It is found to be the same, whatever the file of the old tree is by now: here another one for the most part.
    for (version, tampered) in [("large-2", false), ("large-3", true)] {
        if tampered {
            let mut content = large.1.clone();
            content[0] ^= 1;
            std::fs::write(desk.current("host").join("data/large"), content).unwrap();
        }
        push_own(&desk, version, std::slice::from_ref(&large));
        let answer = desk.agent_once("project", "host", &script).ok();
        let taken = answer
            .stderr
            .contains(&format!("taken_over_bytes={}", 8 * MIB));
        assert_eq!(taken, !tampered, "{answer}");
        assert!(std::fs::read(desk.path("host/current/data/large")).unwrap() == large.1);
        let verify = desk
            .run(Program::Agent.path())
            .args(["verify", "-dir", "host"]);
        verify.ok();
    }
}
