//! A host without a network: the agent deploys from a layout on its disk, a directory or an archive, as skopeo
//! brought it.

use std::path::Path;

use deploy_tests::desk::Desk;
use deploy_tests::peer_or_skip;
use deploy_tests::registry::Registry;
use deploy_tests::wait;

/// Copies releases of a stocked registry, which is gone on return: `old` has `code:v1`, `new` has `code:v2`, and
/// `mixed` the one under another name beside the other.
fn bundles(desk: &Desk, skopeo: &Path, registry: Registry) {
    let copy = |from: &str, to: &str| {
        desk.run(skopeo)
            .args(["copy", "--src-tls-verify=false", from, to])
            .ok();
    };
    let release = |number: u32| format!("docker://{}/configs/project:v{number}", desk.address());
    desk.change("project", "code", "v2");
    copy(&release(1), "oci:old:latest");
    copy(&release(2), "oci:new:latest");
    copy(&release(1), "oci-archive:old.tar:latest");
    copy(&release(2), "oci:unnamed");
    copy(&release(1), "oci:mixed:latest");
    copy(&release(2), "oci:mixed:configs/project:latest");
    drop(registry);
}

/// A host that follows a source of `desk`, named by its kind and its path there.
fn host(desk: &Desk, source: &str) -> Desk {
    let (kind, path) = source.split_once(':').expect("a kind and a path");
    Desk::at(format!("{kind}:{}", desk.path(path).display()))
}

#[test]
fn layouts_and_archives_are_deployed_with_the_registry_gone() {
    let skopeo = peer_or_skip!(
        "layouts_and_archives_are_deployed_with_the_registry_gone",
        "skopeo"
    );
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    bundles(&desk, &skopeo, registry);
    for (source, expected) in [
        ("oci:old", "one"),
        ("oci-archive:old.tar", "one"),
        // The only one there is.
        ("oci:unnamed", "two"),
        // The longer name is more to the point.
        ("oci:mixed", "two"),
    ] {
        let host = host(&desk, source);
        let script = host.script("deploy.sh", "cat \"$NEWROOT/program\"");
        host.agent_once("project", "host", &script).ok();
        assert_eq!(host.read("host/current/program"), expected, "{source}");
        // Nothing has changed.
        host.agent_once("project", "host", &script).ok();
    }
}

#[test]
fn changed_layout_is_deployed_at_the_next_look() {
    let skopeo = peer_or_skip!("changed_layout_is_deployed_at_the_next_look", "skopeo");
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    bundles(&desk, &skopeo, registry);
    let host = host(&desk, "oci:old");
    let script = host.script("deploy.sh", "true");
    let _agent = host.agent("project", "host", &script, &["-poll", "100ms"]);
    let deployed = |expected: &str| {
        let found = std::fs::read_to_string(host.path("host/current/program"));
        found.is_ok_and(|found| found == expected)
    };
    wait::until_true("the first release", || deployed("one"));
    desk.run(&skopeo)
        .args(["copy", "oci:new:latest", "oci:old:latest"])
        .ok();
    wait::until_true("the second release", || deployed("two"));
}

#[test]
fn damaged_or_missing_layouts_are_refused_in_one_line() {
    let skopeo = peer_or_skip!(
        "damaged_or_missing_layouts_are_refused_in_one_line",
        "skopeo"
    );
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    bundles(&desk, &skopeo, registry);
    let refused = |source: &str, expected: &str| {
        let host = host(&desk, source);
        let script = host.script("deploy.sh", "true");
        let answer = host.agent_once("project", "host", &script).code(1);
        let told = format!("{}{}", answer.stdout, answer.stderr);
        assert!(told.contains(expected), "{source}: {answer}");
        assert!(!host.path("host/current").exists());
    };
    refused("oci:nowhere", "oci-layout");
    refused("oci-archive:nowhere.tar", "cannot open");
    refused("oci-archive:old/index.json", "no tar archive");
    desk.write("empty/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    desk.write("empty/index.json", r#"{"schemaVersion":2,"manifests":[]}"#);
    refused("oci:empty", "does not exist");
    for blob in std::fs::read_dir(desk.path("old/blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        // Whatever it is: no byte of it may be wrong.
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    refused("oci:old", "damaged");
}
