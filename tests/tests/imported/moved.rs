//! What moves: what the registry has not, and nothing else.

use std::process::Command;

use deploy_tests::archive::Archive;
use deploy_tests::dam::Dam;
use deploy_tests::desk::Desk;
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;
use deploy_tests::server::Server;
use deploy_tests::{peer_or_skip, wait};

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
fn layers_that_arrived_before_an_import_failed_are_not_sent_again() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let layer = |number: usize| {
        let name = format!("file{number}");
        Archive::new().file(&name, vec![b'x'; 100]).tar()
    };
    // More than move at once: before the last one begins, the first ones are there.
    let image = Image {
        layers: (0..6).map(layer).collect(),
        ..Image::example()
    };
    let whole = image.docker_old();
    let mut damaged = whole.clone();
    let last = &image.layers[5];
    let place = damaged.windows(last.len()).position(|part| part == last);
    // Within the content of its file, so that the layer still is a tar archive.
    damaged[place.unwrap() + 512] = b'X';
    desk.write("damaged.tar", damaged);
    let answer = importer(&desk, ["docker-archive:damaged.tar"]).code(1);
    answer.assert_is_refusal();
    assert!(answer.stderr.contains("has the digest"), "{answer}");
    let visible = deploy_tests::oci::picture(desk.address()).unwrap();
    assert!(visible.is_empty());
    desk.write("whole.tar", whole);
    let made = import(&desk, ["docker-archive:whole.tar"]);
    let contents = contents(&made);
    let sent = contents.iter().filter(|content| **content == "sent");
    assert!(sent.count() <= 4 && contents[5] == "sent", "{made}");
}

#[test]
fn a_layer_that_was_on_its_way_when_an_import_was_killed_goes_on_where_it_stopped() {
    const MIB: u64 = 1024 * 1024;
    let mut content = vec![0; 100 << 20];
    rand::fill(&mut content[..]);
    let layer = Archive::new().file("large", content).tar();
    let size = layer.len() as u64;
    let image = Image {
        layers: vec![layer],
        ..Image::example()
    };
    let archive = image.docker_new(Stored::Plain);
    // In the first chunk of 64 MiB, and in the second one.
    for stopped in [40 * MIB, 80 * MIB] {
        let registry = Registry::start();
        let dam = Dam::start(registry.address().parse().unwrap(), stopped).unwrap();
        let desk = Desk::at(dam.address().to_string());
        desk.write("large.tar", &archive);
        let mut command = Command::new(Program::FromDocker.path());
        command
            .arg("docker-archive:large.tar")
            .current_dir(desk.home())
            .env("HOME", desk.home())
            .env("DEPLOYCTL_ADDR", desk.address())
            .env_remove("XDG_CACHE_HOME");
        let mut killed = Server::start(command, desk.path("killed.log")).unwrap();
        wait::until_true("the layer is on its way", || dam.passed() == stopped);
        killed.kill();
        dam.break_up();
        let patches = stopped / (64 * MIB) + 1;
        wait::until_true("the registry has noticed", || {
            registry.log().matches("ACCESS PATCH").count() as u64 == patches
        });
        let made = import(&desk, ["docker-archive:large.tar"]);
        let layer = &made["layers"][0];
        let before = layer["sent_before"].as_u64().unwrap();
        // What else there was are requests' heads.
        assert!(before <= stopped && before > stopped - MIB, "{made}");
        assert_eq!(made["bytes_sent"], size - before);
        assert!(dam.passed() < size + MIB, "{}", dam.passed());
        let cache = desk.path(".cache/deployctl/uploads");
        assert_eq!(std::fs::read_dir(cache).unwrap().count(), 0);
        let again = import(&desk, ["docker-archive:large.tar"]);
        assert_eq!(again["changed"], false);
    }
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
    let desk = Desk::at("nowhere:1");
    let layer = |number: u32| {
        let mut content = vec![0; 24 << 20];
        rand::fill(&mut content[..]);
        Archive::new().file(&format!("file{number}"), content).tar()
    };
    let image = Image {
        layers: (0..4).map(layer).collect(),
        ..Image::example()
    };
    desk.write("large.tar", image.docker_new(Stored::Plain));
    desk.write("gzip.tar", image.layout_archive(Stored::Gzip));
    let program = Program::FromDocker.path();
    let [plain, gzip] = ["docker-archive:large.tar", "oci-archive:gzip.tar"];
    let table: [&[&str]; 3] = [&[plain], &[gzip], &[gzip, "-name", "v", "--verify-layers"]];
    for arguments in table {
        let registry = Registry::start();
        let answer = desk
            .run(&time)
            .args(["-f", "%M"])
            .arg(&program)
            .args(arguments)
            .args(["-addr", &registry.address(), "--output", "json"])
            .ok();
        let peak: u64 = answer.stderr.trim().parse().unwrap();
        assert!(peak <= MEMORY, "{arguments:?}: {peak} KiB");
    }
}
