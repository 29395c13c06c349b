//! Wherever an image is, it is the same image.

use deploy_tests::archive::gzip;
use deploy_tests::desk::Desk;
use deploy_tests::oci;
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;
use serde_json::json;

use crate::engine::Engine;
use crate::image::{Image, Stored, descriptor, put_blob};
use crate::{digests, import, importer, release};

/// Asserts that a configuration is the example, with the layers as given.
#[track_caller]
fn assert_is_example(desk: &Desk, configuration: &str, layers: &[String]) {
    let (manifest, config) = release(desk, configuration);
    assert_eq!(digests(&manifest), layers, "{configuration}");
    let image = Image::example();
    assert_eq!(config["config"], image.config["config"], "{configuration}");
    assert_eq!(config["author"], "somebody");
    assert_eq!(config["rootfs"]["diff_ids"], json!(image.diff_ids()));
    let created = manifest.annotation("dev.deploytools.origin-created");
    assert_eq!(created, "2026-01-02T03:04:05Z", "{configuration}");
    assert!(
        manifest
            .annotation("org.opencontainers.image.base.digest")
            .starts_with("sha256:")
    );
}

#[test]
fn every_source_gives_the_same_layers_and_configuration() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = Image::example();
    let plain = image.diff_ids();
    let compressed: Vec<String> = image
        .layers
        .iter()
        .map(|layer| oci::digest(&gzip(layer)))
        .collect();
    desk.write("old.tar", image.docker_old());
    desk.write("old.tar.gz", gzip(&image.docker_old()));
    desk.write("podman.tar", image.podman());
    desk.write("new.tar", image.docker_new(Stored::Plain));
    desk.write("new-gzip.tar", image.docker_new(Stored::Gzip));
    desk.write("layout.tar", image.layout_archive(Stored::Plain));
    image.layout(&desk, "layout", Stored::Plain);
    image.layout(&desk, "layout-gzip", Stored::Gzip);
    let sources = [
        ("docker-archive:old.tar", &plain, "app.1"),
        ("docker-archive:old.tar.gz", &plain, "app.1"),
        ("docker-archive:old.tar:app:1", &plain, "app.1"),
        ("docker-archive:podman.tar", &plain, "app.1"),
        ("docker-archive:new.tar", &plain, "app.1"),
        ("docker-archive:new-gzip.tar", &compressed, "app.1"),
        ("oci-archive:layout.tar", &plain, "layout.1"),
        ("oci-archive:new.tar:1", &plain, "new.1"),
        ("oci:layout:1", &plain, "layout.1"),
        ("oci:layout-gzip", &compressed, "layout-gzip.1"),
    ];
    for (number, (source, layers, called)) in sources.into_iter().enumerate() {
        let name = format!("c{number}");
        import(&desk, [source, "-name", &name]);
        assert_is_example(&desk, &name, layers);
        let (manifest, _) = release(&desk, &name);
        assert_eq!(
            manifest.annotation("org.opencontainers.image.base.name"),
            source
        );
        let made = import(&desk, [source, "--dry-run"]);
        assert_eq!(made["name"], called, "{source}");
    }
    // Only a manifest has annotations; a release has a version of its own.
    let (manifest, _) = release(&desk, "c4");
    assert_eq!(manifest.annotation("org.example.note"), "kept");
    assert_eq!(manifest.annotation("dev.deploytools.origin-version"), "7.1");
    assert_eq!(
        manifest.annotation("org.opencontainers.image.version"),
        "v1"
    );
}

#[test]
fn archives_are_read_from_standard_input() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = Image::example();
    let streams = [
        image.docker_old(),
        image.docker_new(Stored::Plain),
        image.podman(),
        image.layout_archive(Stored::Plain),
        gzip(&image.docker_old()),
    ];
    for (number, stream) in streams.into_iter().enumerate() {
        let name = format!("stream{number}");
        importer(&desk, ["-name", &name]).input(stream.clone()).ok();
        assert_is_example(&desk, &name, &image.diff_ids());
        importer(&desk, ["-name", &name, "-"]).input(stream).ok();
    }
    // What was kept of them is gone.
    let left = std::fs::read_dir(desk.home()).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn an_engine_gives_its_images_out() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let mut image = Image::example();
    image.name = "localhost/team/app:1".to_owned();
    let engine = Engine::start(desk.home(), &image.name, image.docker_new(Stored::Plain));
    let from = |name: &str| {
        let source = format!("docker-daemon:{name}");
        importer(&desk, [&*source]).env("DOCKER_HOST", engine.host())
    };
    from("localhost/team/app:1").ok();
    assert_is_example(&desk, "localhost.team.app.1", &image.diff_ids());
    let answer = from("nothing").code(1);
    answer.assert_is_refusal();
    assert!(
        answer.stderr.contains("No such image: nothing:latest"),
        "{answer}"
    );
}

#[test]
fn an_index_is_followed_to_the_platform() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let mut manifests = Vec::new();
    for (architecture, variant) in [("amd64", None), ("arm64", Some("v8")), ("arm", Some("v6"))] {
        let mut image = Image::example();
        image.config["architecture"] = json!(architecture);
        let blobs = image.blobs(Stored::Plain);
        blobs.iter().for_each(|blob| put_blob(&desk, "many", blob));
        let mut manifest = descriptor(oci::MANIFEST, &blobs[0]);
        manifest["platform"] =
            json!({"os": "linux", "architecture": architecture, "variant": variant});
        manifests.push(manifest);
    }
    let mut attestation = manifests[0].clone();
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    manifests.insert(0, attestation);
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
    put_blob(&desk, "many", inner.as_bytes());
    let outer = json!({"schemaVersion": 2, "manifests": [descriptor(INDEX, inner.as_bytes())]});
    desk.write("many/index.json", outer.to_string());
    desk.write("many/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    for (platform, expected) in [
        ("linux/amd64", "amd64"),
        ("linux/arm64", "arm64"),
        ("linux/aarch64", "arm64"),
        ("linux/arm/v7", "arm"),
    ] {
        import(
            &desk,
            ["oci:many", "-name", expected, "--platform", platform],
        );
        let (_, config) = release(&desk, expected);
        assert_eq!(config["architecture"], expected, "{platform}");
    }
    let answer = importer(&desk, ["oci:many", "--platform", "linux/s390x"]).code(1);
    answer.assert_is_refusal();
    let there = "it is for `linux/amd64`, `linux/arm/v6`, `linux/arm64/v8`";
    assert!(answer.stderr.contains(there), "{answer}");
}

#[test]
fn hosts_unpack_what_the_image_is() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.write("old.tar", Image::example().docker_old());
    desk.push_file("top", "v1", "extra", "more");
    let answer = importer(&desk, ["docker-archive:old.tar", "-layer", "top:v1"]).ok();
    let first = answer.stdout.lines().next().unwrap();
    assert!(first.starts_with("app.1 v1 sha256:"), "{answer}");
    let script = desk.script("deploy.sh", "cp $STATEFILE state");
    desk.agent_once("app.1", "host", &script).ok();
    let mut expected: Vec<&str> = Image::paths().into();
    expected.insert(6, "extra");
    let tree = Tree::of(desk.current("host"));
    assert_eq!(tree.paths(), expected);
    assert_eq!(desk.read("host/current/etc/all/new"), "new");
}
