//! Images whose layers become one.

use deploy_tests::archive::{Archive, gzip};
use deploy_tests::desk::Desk;
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;
use tar::EntryType;

use crate::{contents, digests, image::Image, import, importer, release};

#[test]
fn layers_become_one_that_hosts_unpack_to_the_same_and_that_is_always_the_same() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.write("old.tar", Image::example().docker_old());
    desk.write("podman.tar", Image::example().podman());
    let script = desk.script("deploy.sh", "true");
    let mut trees = Vec::new();
    for (name, flags) in [("whole", &[][..]), ("flat", &["--flatten"])] {
        let usual = ["docker-archive:old.tar", "-name", name];
        import(&desk, usual.iter().chain(flags).copied());
        desk.agent_once(name, name, &script).ok();
        trees.push(Tree::of(desk.current(name)));
    }
    assert_eq!(trees[0].difference(&trees[1]), "");
    assert_eq!(trees[1].paths(), Image::paths());
    let (manifest, config) = release(&desk, "flat");
    assert_eq!(digests(&manifest).len(), 1);
    assert_eq!(config["config"], Image::example().config["config"]);
    // From anywhere, and nothing moves.
    let again = ["docker-archive:podman.tar", "-name", "flat", "--flatten"];
    let again = import(&desk, again);
    assert_eq!(
        (contents(&again), &again["changed"]),
        (vec!["there"], &false.into())
    );
    // With a layer on top, and a name for its component.
    desk.push_file("extra", "v1", "extra", "more");
    let other = ["docker-archive:old.tar", "-name", "other", "--flatten"];
    let more = [
        "--component-prefix",
        "base",
        "--recompress",
        "zstd",
        "-layer",
        "extra:v1",
    ];
    let made = import(&desk, other.into_iter().chain(more));
    assert_eq!(made["layers"][0]["component"], "base.flat");
    assert_eq!(made["layers"][1]["component"], "extra");
    let (manifest, _) = release(&desk, "other");
    let media_type = manifest.json["layers"][0]["mediaType"].as_str().unwrap();
    assert!(media_type.ends_with("tar+zstd"), "{media_type}");
}

#[test]
fn devices_are_left_out_and_damaged_layers_are_refused() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let mut image = Image::example();
    let devices = Archive::new()
        .entry(EntryType::Char, "dev/null", "", 0o666, b"")
        .entry(EntryType::Fifo, "run/pipe", "", 0o600, b"");
    image.layers.push(devices.tar());
    desk.write("image.tar", image.docker_old());
    let arguments = ["docker-archive:image.tar", "-name", "flat", "--flatten"];
    let answer = importer(&desk, arguments).ok();
    assert!(
        answer.stdout.contains("devices and named pipes, 2\n"),
        "{answer}"
    );
    let script = desk.script("deploy.sh", "true");
    desk.agent_once("flat", "host", &script).ok();
    assert!(!desk.current("host").join("dev/null").exists());
    // Layers are verified before anything comes of them.
    let objects = registry.objects();
    let mut damaged = Image::example();
    damaged.layers[0] = gzip(&damaged.layers[0]);
    desk.write("damaged.tar", damaged.docker_old());
    let arguments = ["docker-archive:damaged.tar", "-name", "other", "--flatten"];
    let answer = importer(&desk, arguments).code(1);
    assert!(answer.stderr.contains("layer 1"), "{answer}");
    assert_eq!(answer.stderr.lines().count(), 1, "{answer}");
    assert_eq!(registry.objects(), objects);
    // Nor does anything stay of them here.
    let left = std::fs::read_dir(desk.home()).unwrap();
    let left = left.filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .as_encoded_bytes()
            .starts_with(b".tmp")
    });
    assert_eq!(left.count(), 0);
}
