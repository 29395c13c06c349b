//! The same tree gives the same digest, whoever packs it, wherever and whenever.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::path::Path;
use std::time::{Duration, SystemTime};

use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::oci;
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;

/// Makes the same tree by different ways: `names` in the given order, under a umask, with times of a certain day.
fn make(desk: &Desk, root: &str, names: &[&str], umask: &str, age: Duration) {
    for name in names {
        let body = "x".repeat(name.len() * 1000);
        let make = format!(
            "umask {umask}; mkdir -p $(dirname {root}/{name}); printf '%s' {body} > {root}/{name}"
        );
        desk.run("/bin/sh").args(["-c", &make]).ok();
        let file = std::fs::File::options()
            .append(true)
            .open(desk.path(root).join(name))
            .unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    let finish = format!(
        "umask {umask}; ln -s a/one {root}/link; mkdir {root}/empty; chmod u+x {root}/bin/run"
    );
    desk.run("/bin/sh").args(["-c", &finish]).ok();
}

fn push(desk: &Desk, version: &str, root: &Path, umask: &str) -> String {
    let (program, address) = (Program::Deployctl.path(), desk.address());
    let command = format!(
        "umask {umask}; exec {} -addr {address} push code:{version} {}",
        program.display(),
        root.display()
    );
    Run::new("/bin/sh")
        .args(["-c", &command])
        .env("HOME", desk.home())
        .ok();
    let manifest = oci::manifest(address, "components/code", version)
        .unwrap()
        .unwrap();
    manifest.json["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn same_tree_has_one_digest_on_any_day_under_any_umask() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let names = ["a/one", "a/two", "bin/run", "c"];
    let reversed = ["c", "bin/run", "a/two", "a/one"];
    make(&desk, "today", &names, "022", Duration::ZERO);
    make(
        &desk,
        "long-ago",
        &reversed,
        "077",
        Duration::from_secs(4 * 365 * 24 * 3600),
    );
    let first = push(&desk, "v1", &desk.path("today"), "022");
    assert_eq!(
        push(&desk, "v2", &desk.path("today"), "077"),
        first,
        "packed under another umask"
    );
    assert_eq!(
        push(&desk, "v3", &desk.path("long-ago"), "000"),
        first,
        "made on another day in another order"
    );
}

#[test]
fn pushing_the_same_again_changes_nothing_and_other_bytes_are_refused() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.push_file("code", "v1", "program", "one");
    let before = oci::picture(desk.address()).unwrap();
    desk.push_file("code", "v1", "program", "one");
    assert_eq!(oci::picture(desk.address()).unwrap(), before);
    desk.write("other/program", "two");
    let answer = desk.deployctl(["push", "code:v1", "other"]).code(1);
    assert!(answer.stderr.contains("v1"), "{answer}");
    assert_eq!(oci::picture(desk.address()).unwrap(), before);
}
