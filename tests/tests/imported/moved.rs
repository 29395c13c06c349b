//! What moves: what the registry has not, and nothing else.

use deploy_tests::archive::Archive;
use deploy_tests::desk::Desk;
use deploy_tests::peer_or_skip;
use deploy_tests::registry::Registry;

use crate::image::{Image, Stored};
use crate::{contents, digests, import, importer, release};

/// How many bytes of bodies a registry has received.
fn received(registry: &Registry) -> u64 {
    let metrics = deploy_tests::http::get(&registry.address(), "/metrics").unwrap();
    let text = metrics.text();
    let name = "deploy_registry_http_received_bytes_total";
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}

#[test]
fn a_second_import_moves_nothing_and_changes_nothing() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.write("old.tar", Image::example().docker_old());
    let made = import(&desk, ["docker-archive:old.tar"]);
    // The layer that is there twice is sent once.
    assert_eq!(contents(&made), ["sent", "sent", "sent", "mounted"]);
    let (objects, before) = (registry.objects(), received(&registry));
    assert!(before > 0);
    let again = import(&desk, ["docker-archive:old.tar"]);
    assert_eq!(again["changed"], false);
    assert_eq!(again["bytes_sent"], 0);
    assert_eq!(again["id"], made["id"]);
    assert_eq!(contents(&again), ["there"; 4]);
    let said = importer(&desk, ["docker-archive:old.tar"]).ok();
    assert!(
        said.stdout.ends_with("nothing moved, nothing changed\n"),
        "{said}"
    );
    // Nor does it matter where the same image comes from.
    desk.write("podman.tar", Image::example().podman());
    assert_eq!(
        import(&desk, ["docker-archive:podman.tar"])["id"],
        made["id"]
    );
    assert_eq!(registry.objects(), objects);
    assert_eq!(received(&registry), before);
}

#[test]
fn a_new_top_layer_moves_alone() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let mut image = Image::example();
    desk.write("one.tar", image.docker_old());
    let first = import(&desk, ["docker-archive:one.tar"]);
    let mut content = vec![0; 1 << 20];
    rand::fill(&mut content[..]);
    let top = Archive::new().file("top", content).tar();
    image.layers.push(top.clone());
    image.name = "app:2".to_owned();
    desk.write("two.tar", image.docker_new(Stored::Plain));
    let planned = import(&desk, ["docker-archive:two.tar", "--dry-run"]);
    assert_eq!(planned["bytes_to_send"], top.len());
    let before = received(&registry);
    let second = import(&desk, ["docker-archive:two.tar"]);
    // The layer once, and some manifests.
    let moved = received(&registry) - before;
    assert!(
        moved >= top.len() as u64 && moved < top.len() as u64 + 32 * 1024,
        "{moved}"
    );
    assert_eq!(
        contents(&second),
        ["there", "there", "there", "there", "sent"]
    );
    assert_eq!(second["bytes_sent"], top.len());
    // What both have is one component version.
    for index in 0..4 {
        assert_eq!(
            second["layers"][index]["component"],
            first["layers"][index]["component"]
        );
    }
    assert_eq!(second["layers"][4]["component"], "app.2.l5");
    let components = desk.json(["components"]);
    let expected = ["app.1.l1", "app.1.l2", "app.1.l3", "app.1.l4", "app.2.l5"];
    assert_eq!(components, serde_json::json!(expected));
}

#[test]
fn an_image_of_the_same_registry_is_mounted() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = Image::example();
    let blobs = image.blobs(Stored::Gzip);
    for blob in &blobs[1..] {
        deploy_tests::oci::push_blob(desk.address(), "team/app", blob).unwrap();
    }
    let manifest = serde_json::from_slice(&blobs[0]).unwrap();
    deploy_tests::oci::push_manifest(desk.address(), "team/app", "1", &manifest).unwrap();
    let source = format!("docker://{}/team/app:1", desk.address());
    let planned = import(&desk, [&*source, "--dry-run"]);
    assert_eq!(planned["name"], "team.app.1");
    assert_eq!(contents(&planned), ["mount"; 4]);
    assert_eq!(planned["bytes_to_send"], 0);
    let made = import(&desk, [&*source]);
    assert_eq!(contents(&made), ["mounted"; 4]);
    // To another registry the bytes go through.
    let other = Registry::start();
    let there = Desk::at(other.address());
    let made = import(&there, [&*source]);
    assert_eq!(contents(&made), ["sent", "sent", "sent", "mounted"]);
    let (here, _) = release(&desk, "team.app.1");
    let (there, _) = release(&there, "team.app.1");
    assert_eq!(digests(&here), digests(&there));
}

#[test]
fn an_import_that_failed_goes_on_where_it_stopped() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = Image::example();
    let whole = image.docker_old();
    let mut damaged = whole.clone();
    let middle = &image.layers[2];
    let place = damaged
        .windows(middle.len())
        .position(|window| window == middle);
    // Within the content of a file, so that the layer still is a tar archive.
    let content = place.unwrap()
        + middle
            .windows(3)
            .rposition(|window| window == b"new")
            .unwrap();
    damaged[content] = b'N';
    desk.write("damaged.tar", damaged);
    let answer = importer(&desk, ["docker-archive:damaged.tar"]).code(1);
    answer.assert_is_refusal();
    assert!(answer.stderr.contains("has the digest"), "{answer}");
    assert!(
        deploy_tests::oci::picture(desk.address())
            .unwrap()
            .is_empty()
    );
    desk.write("whole.tar", whole);
    let made = import(&desk, ["docker-archive:whole.tar"]);
    assert_eq!(contents(&made)[2], "sent");
    let sent = contents(&made)
        .iter()
        .filter(|content| **content == "sent")
        .count();
    assert!(sent < 3, "what had arrived is sent again: {made}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.write("old.tar", Image::example().docker_old());
    let objects = registry.objects();
    let answer = importer(&desk, ["docker-archive:old.tar", "--dry-run"]).ok();
    let bytes: usize = Image::example().layers[..3].iter().map(Vec::len).sum();
    assert!(
        answer
            .stdout
            .ends_with(&format!("{bytes} bytes would be sent\n")),
        "{answer}"
    );
    assert_eq!(registry.objects(), objects);
}

#[test]
fn layers_are_compressed_anew_only_when_asked_for_and_always_alike() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.write("old.tar", Image::example().docker_old());
    for compression in ["gzip", "zstd"] {
        let arguments = [
            "docker-archive:old.tar",
            "-name",
            compression,
            "--recompress",
            compression,
        ];
        let made = import(&desk, arguments);
        let again = import(&desk, arguments);
        assert_eq!(again["id"], made["id"]);
        assert_eq!(again["bytes_sent"], 0);
        let (manifest, config) = release(&desk, compression);
        assert_eq!(
            config["rootfs"]["diff_ids"],
            serde_json::json!(Image::example().diff_ids())
        );
        let media_type = manifest.json["layers"][0]["mediaType"].as_str().unwrap();
        assert!(
            media_type.ends_with(&format!("tar+{compression}")),
            "{media_type}"
        );
        let script = desk.script("deploy.sh", "true");
        desk.agent_once(compression, compression, &script).ok();
        let tree = deploy_tests::tree::Tree::of(desk.current(compression));
        assert_eq!(tree.paths(), Image::paths());
    }
}

/// What an import may have in memory, in KiB.
const MEMORY: u64 = 64 * 1024;

#[test]
fn a_large_image_passes_through_little_memory() {
    let time = peer_or_skip!("a_large_image_passes_through_little_memory", "time");
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let layer = |number: u32| {
        let mut content = vec![0; 40 << 20];
        rand::fill(&mut content[..]);
        Archive::new().file(&format!("file{number}"), content).tar()
    };
    let image = Image {
        layers: (0..5).map(layer).collect(),
        ..Image::example()
    };
    desk.write("large.tar", image.docker_new(Stored::Plain));
    desk.write("gzip.tar", image.layout_archive(Stored::Gzip));
    let program = deploy_tests::programs::Program::FromDocker.path();
    for source in ["docker-archive:large.tar", "oci-archive:gzip.tar"] {
        let answer = desk
            .run(&time)
            .args(["-f", "%M"])
            .arg(&program)
            .args([source, "--output", "json"])
            .ok();
        let peak: u64 = answer.stderr.trim().parse().unwrap();
        assert!(peak <= MEMORY, "{source}: {peak} KiB");
    }
}
