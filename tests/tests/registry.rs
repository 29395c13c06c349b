//! A registry in service: stopped while it works, and on a disk that is full.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::io::Write;
use std::path::{Path, PathBuf};

use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::registry::Registry;
use deploy_tests::{http, oci, wait};
use rand::RngExt;

#[test]
fn graceful_shutdown_finishes_the_upload_in_flight() {
    let mut registry = Registry::start();
    let address = registry.address();
    let mut bytes = vec![0; 3_000_000];
    rand::rng().fill(&mut bytes[..]);
    let digest = oci::digest(&bytes);
    let location = oci::open_upload(&address, "some/thing").unwrap();
    let target = oci::with_digest(&location, &digest);
    let mut stream = http::begin(&address, "PUT", &target, &[], bytes.len() as u64).unwrap();
    stream.write_all(&bytes[..1_000_000]).unwrap();
    // The upload is in the registry's hands once another request has been answered after it.
    assert_eq!(http::get(&address, "/readyz").unwrap().status, 200);

    registry.terminate();
    wait::until_true("the registry takes no more connections", || {
        http::get(&address, "/v2/").is_err()
    });
    stream.write_all(&bytes[1_000_000..]).unwrap();
    assert_eq!(http::finish(stream, "PUT").unwrap().status, 201);
    assert!(registry.wait().success(), "{}", registry.log());

    registry.restart();
    assert_eq!(
        oci::blob(&registry.address(), "some/thing", &digest)
            .unwrap()
            .unwrap(),
        bytes
    );
}

#[test]
fn long_poll_does_not_hold_up_a_shutdown() {
    let mut registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.push_file("code", "v1", "program", "one");
    let digest = oci::manifest(desk.address(), "components/code", "v1")
        .unwrap()
        .unwrap()
        .digest;
    let tag = format!("\"{digest}\"");
    let headers = [("If-None-Match", tag.as_str()), ("Prefer", "wait=3600")];
    let _waiting = http::begin(
        desk.address(),
        "GET",
        "/v2/components/code/manifests/v1",
        &headers,
        0,
    )
    .unwrap();
    assert_eq!(http::get(desk.address(), "/readyz").unwrap().status, 200);
    registry.terminate();
    assert!(registry.wait().success(), "{}", registry.log());
}

#[test]
fn health_and_metrics_are_served() {
    let registry = Registry::start();
    let address = registry.address();
    assert_eq!(http::get(&address, "/healthz").unwrap().status, 200);
    assert_eq!(http::get(&address, "/readyz").unwrap().status, 200);
    let metrics = http::get(&address, "/metrics").unwrap().text();
    assert!(
        metrics.contains("# TYPE") && metrics.contains("# HELP"),
        "{metrics}"
    );
}

#[test]
fn old_versions_go_and_the_newest_and_the_used_ones_stay() {
    let registry = Registry::start_with(&["-maxver", "2", "-upkeep", "100ms"]);
    let desk = Desk::at(registry.address());
    desk.push_file("code", "v1", "program", "one");
    desk.compose("project", &["code:v1"]);
    for version in ["v2", "v3", "v4", "v5"] {
        desk.push_file("code", version, "program", version);
    }
    wait::until_true("two old versions are removed", || {
        oci::tags(desk.address(), "components/code").unwrap() == ["v1", "v4", "v5"]
    });
    let script = desk.script("deploy.sh", "cp $NEWROOT/program deployed");
    desk.agent_once("project", "host", &script).ok();
    assert_eq!(desk.read("deployed"), "one");
}

/// A small file system in memory; it is unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        let mount = Run::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .answer();
        mount
            .is_ok_and(|answer| answer.succeeded())
            .then_some(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Run::new("umount").arg("--lazy").arg(&self.0).answer().ok();
    }
}

/// Bytes that no compression makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

#[test]
fn full_disk_of_a_registry_refuses_a_push_and_harms_nothing() {
    const NAME: &str = "full_disk_of_a_registry_refuses_a_push_and_harms_nothing";
    let scratch = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(scratch.path().join("disk"), "8m") else {
        return deploy_tests::peers::skip(NAME, "root, to mount a small disk");
    };
    let registry = Registry::start_on(disk.path(), &[]);
    let desk = Desk::at(registry.address());
    desk.push_file("code", "v1", "program", "one");
    let before = oci::picture(desk.address()).unwrap();
    desk.write("big/file", noise(12 << 20));
    let answer = desk.deployctl(["push", "code:v2", "big"]).code(1);
    assert!(
        answer.stderr.lines().count() <= 2 && answer.stderr.starts_with("deployctl: "),
        "{answer}"
    );
    assert!(
        answer.stderr.contains("space") || answer.stderr.contains("full"),
        "{answer}"
    );
    assert_eq!(oci::picture(desk.address()).unwrap(), before);

    // What was refused does not keep the space: something smaller fits now.
    desk.write("small/file", noise(3 << 20));
    desk.deployctl(["push", "code:v3", "small"]).ok();
    assert!(!registry.log().contains("panicked"), "{}", registry.log());
}

#[test]
fn full_disk_of_a_host_keeps_the_old_release() {
    const NAME: &str = "full_disk_of_a_host_keeps_the_old_release";
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let Some(disk) = SmallDisk::mount(desk.path("host"), "8m") else {
        return deploy_tests::peers::skip(NAME, "root, to mount a small disk");
    };
    desk.push_file("code", "v1", "program", "one");
    desk.write("big/program", noise(6 << 20));
    desk.deployctl(["push", "code:v2", "big"]).ok();
    desk.push_file("code", "v3", "program", "three");
    let script = desk.script("deploy.sh", "cp $NEWROOT/program deployed");
    // The whole disk is smaller than what is kept free otherwise.
    let once = || {
        desk.agent_once("project", "host", &script)
            .args(["-reserve", "0"])
    };
    desk.compose("project", &["code:v1"]);
    once().ok();

    desk.change("project", "code", "v2");
    let answer = once().code(1);
    assert!(answer.stderr.contains("too little room"), "{answer}");
    assert_eq!(desk.read("deployed"), "one");
    assert_eq!(
        std::fs::read_to_string(disk.path().join("current/program")).unwrap(),
        "one"
    );

    desk.change("project", "code", "v3");
    once().ok();
    assert_eq!(desk.read("deployed"), "three");
}
