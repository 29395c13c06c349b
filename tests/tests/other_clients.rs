//! Other projects' clients: what they push is as good as ours, and what we make they read.

use deploy_tests::archive::Archive;
use deploy_tests::desk::Desk;
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;
use deploy_tests::{oci, peer_or_skip};
use tar::EntryType;

/// Composes a configuration of one component, deploys it, and returns the deployed tree.
fn deployed(desk: &Desk, component: &str) -> Tree {
    desk.compose(component, &[&format!("{component}:v1")]);
    let script = desk.script("deploy.sh", "true");
    let host = format!("hosts/{component}");
    desk.agent_once(component, &host, &script).ok();
    Tree::of(desk.current(&host))
}

/// One archive, plain and compressed in both ways.
fn archives(desk: &Desk) -> Vec<(&'static str, &'static str)> {
    let tar = Archive::new()
        .directory("d/")
        .file("d/file", "content")
        .symbolic_link("link", "d/file")
        .tar();
    desk.write("plain.tar", &tar);
    desk.write("gzip.tar.gz", deploy_tests::archive::gzip(&tar));
    desk.write("zstd.tar.zst", deploy_tests::archive::zstd(&tar));
    vec![
        ("plain.tar", "application/vnd.oci.image.layer.v1.tar"),
        ("gzip.tar.gz", "application/vnd.oci.image.layer.v1.tar+gzip"),
        (
            "zstd.tar.zst",
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
    ]
}

#[test]
fn what_oras_pushes_is_a_component_version() {
    let oras = peer_or_skip!("what_oras_pushes_is_a_component_version", "oras");
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    for (number, (file, media_type)) in archives(&desk).into_iter().enumerate() {
        // With its media type said, and as oras has it when nothing is said: always a plain tar.
        for (way, argument) in [
            ("said", format!("{file}:{media_type}")),
            ("unsaid", file.to_owned()),
        ] {
            let component = format!("{way}{number}");
            let target = format!("{}/components/{component}:v1", desk.address());
            desk.run(&oras)
                .args(["push", "--plain-http", &target, &argument])
                .ok();
            assert_eq!(
                deployed(&desk, &component).paths(),
                ["d", "d/file", "link"],
                "{component}"
            );
        }
    }
}

#[test]
fn what_crane_appends_is_a_component_version() {
    let crane = peer_or_skip!("what_crane_appends_is_a_component_version", "crane");
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    archives(&desk);
    for (component, flag) in [
        ("docker-types", None),
        ("oci-types", Some("--oci-empty-base")),
    ] {
        let target = format!("{}/components/{component}:v1", desk.address());
        let append =
            desk.run(&crane)
                .args(["append", "--insecure", "-f", "gzip.tar.gz", "-t", &target]);
        append.args(flag).ok();
        assert_eq!(
            deployed(&desk, component).paths(),
            ["d", "d/file", "link"],
            "{component}"
        );
    }
}

#[test]
fn what_regctl_puts_is_a_component_version() {
    let regctl = peer_or_skip!("what_regctl_puts_is_a_component_version", "regctl");
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.run(&regctl)
        .args(["registry", "set", "--tls", "disabled", desk.address()])
        .ok();
    for (number, (file, media_type)) in archives(&desk).into_iter().enumerate() {
        let component = format!("put{number}");
        let target = format!("{}/components/{component}:v1", desk.address());
        let put = [
            "artifact",
            "put",
            "--artifact-type",
            "application/vnd.example.thing",
            "-f",
            file,
        ];
        desk.run(&regctl)
            .args(put)
            .args(["--file-media-type", media_type, &target])
            .ok();
        assert_eq!(
            deployed(&desk, &component).paths(),
            ["d", "d/file", "link"],
            "{component}"
        );
    }
}

#[test]
fn manifest_that_is_no_single_archive_is_refused_when_it_is_used() {
    let oras = peer_or_skip!(
        "manifest_that_is_no_single_archive_is_refused_when_it_is_used",
        "oras"
    );
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    archives(&desk);
    desk.write("text", "no archive");
    let cases: &[(&str, &[&str])] = &[
        (
            "two",
            &[
                "plain.tar:application/vnd.oci.image.layer.v1.tar",
                "gzip.tar.gz:application/vnd.oci.image.layer.v1.tar+gzip",
            ],
        ),
        ("picture", &["text:image/png"]),
        ("text", &["text:application/vnd.oci.image.layer.v1.tar"]),
    ];
    for (component, files) in cases {
        let target = format!("{}/components/{component}:v1", desk.address());
        desk.run(&oras)
            .args(["push", "--plain-http", &target])
            .args(*files)
            .ok();
        let before = oci::picture(desk.address()).unwrap();
        let answer = desk
            .deployctl([
                "addconf",
                "-name",
                "project",
                "-layer",
                &format!("{component}:v1"),
            ])
            .code(1);
        assert!(
            answer.stderr.contains(&format!("{component}:v1")),
            "{answer}"
        );
        assert_eq!(oci::picture(desk.address()).unwrap(), before);
    }
}

/// Two layers of which the later one replaces, by every kind of thing, and removes.
fn layered(desk: &Desk) {
    let one = Archive::new()
        .directory("etc/")
        .file("etc/kept", "kept")
        .modified(1_100_000_000)
        .file("etc/replaced", "a longer text that is replaced")
        .entry(EntryType::Regular, "etc/set-id", "", 0o4755, b"set-id")
        .owner(1000, 1001)
        .file("etc/owned", "owned")
        .entry(EntryType::Directory, "private/", "", 0o700, b"")
        .file("private/file", "file")
        .hard_link("private/same", "private/file")
        .symbolic_link("private/link", "../etc/kept")
        .owner(0, 0)
        .directory("becomes-file/")
        .file("becomes-file/inner", "inner")
        .file("becomes-directory", "file")
        .symbolic_link("becomes-link-target", "etc/kept")
        .directory("emptied/")
        .file("emptied/gone", "gone")
        .file("removed", "removed")
        .gzip();
    let two = Archive::new()
        .modified(1_200_000_000)
        .file("etc/replaced", "short")
        .file("becomes-file", "now a file")
        .directory("becomes-directory/")
        .file("becomes-directory/inner", "inner")
        .file("becomes-link-target", "a file where a link was")
        .file("emptied/.wh..wh..opq", "")
        .file("emptied/new", "new")
        .file(".wh.removed", "")
        .file("etc/.wh.set-id", "")
        .gzip();
    desk.write("one.tar.gz", one);
    desk.write("two.tar.gz", two);
    desk.deployctl([
        "addver",
        "-name",
        "one",
        "-version",
        "v1",
        "-file",
        "one.tar.gz",
    ])
    .ok();
    desk.deployctl([
        "addver",
        "-name",
        "two",
        "-version",
        "v1",
        "-file",
        "two.tar.gz",
    ])
    .ok();
    desk.compose("project", &["one:v1", "two:v1"]);
}

#[test]
fn umoci_unpacks_the_same_tree_as_the_agent() {
    const NAME: &str = "umoci_unpacks_the_same_tree_as_the_agent";
    let umoci = peer_or_skip!(NAME, "umoci");
    let skopeo = peer_or_skip!(NAME, "skopeo");
    if !rustix::process::geteuid().is_root() {
        return deploy_tests::peers::skip(NAME, "root, to give files away");
    }
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    layered(&desk);
    let script = desk.script("deploy.sh", "true");
    desk.agent_once("project", "host", &script).ok();
    let source = format!("docker://{}/configs/project:latest", desk.address());
    desk.run(&skopeo)
        .args([
            "copy",
            "--src-tls-verify=false",
            &source,
            "oci:layout:latest",
        ])
        .ok();
    desk.run(&umoci)
        .args(["unpack", "--image", "layout:latest", "bundle"])
        .ok();
    let theirs = Tree::of(desk.path("bundle/rootfs"));
    let ours = Tree::of(desk.current("host"));
    assert!(ours.entries.len() > 10, "{:?}", ours.paths());
    assert_eq!(theirs.difference(&ours), "", "- umoci's, + the agent's");
}

#[test]
fn podman_and_skopeo_take_a_configuration_as_an_image() {
    const NAME: &str = "podman_and_skopeo_take_a_configuration_as_an_image";
    let podman = peer_or_skip!(NAME, "podman");
    let skopeo = peer_or_skip!(NAME, "skopeo");
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    layered(&desk);
    let image = format!("{}/configs/project:v1", desk.address());
    let engine = |arguments: &[&str]| {
        // A store of its own, in the simplest form there is: nothing of it may stay on the machine.
        desk.run(&podman)
            .args([
                "--root",
                "images",
                "--runroot",
                "run",
                "--storage-driver",
                "vfs",
            ])
            .args(arguments)
            .ok()
    };
    engine(&["pull", "--tls-verify=false", &image]);
    let listed = engine(&[
        "image",
        "inspect",
        "--format",
        "{{.Os}} {{len .RootFS.Layers}}",
        &image,
    ]);
    assert_eq!(listed.stdout.trim(), "linux 2", "{listed}");
    engine(&["rmi", &image]);

    let inspected = desk
        .run(&skopeo)
        .args([
            "inspect",
            "--tls-verify=false",
            &format!("docker://{image}"),
        ])
        .ok();
    let inspected: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
    let manifest = oci::manifest(desk.address(), "configs/project", "v1")
        .unwrap()
        .unwrap();
    assert_eq!(inspected["Digest"], manifest.digest.as_str());
    let copy = format!("docker://{}/copies/project:v1", desk.address());
    let flags = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    desk.run(&skopeo)
        .args(flags)
        .args([&format!("docker://{image}"), &copy])
        .ok();
    assert_eq!(
        oci::manifest(desk.address(), "copies/project", "v1")
            .unwrap()
            .unwrap()
            .digest,
        manifest.digest
    );
}
