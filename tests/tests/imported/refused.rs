//! What cannot be imported: one clear line, and a registry that is as it was.

use deploy_tests::archive::Archive;
use deploy_tests::desk::Desk;
use deploy_tests::oci::{self, digest};
use deploy_tests::port::Port;
use deploy_tests::registry::Registry;
use serde_json::{Value, json};
use tar::EntryType;

use crate::image::{Image, Stored, descriptor, put_blob};
use crate::importer;

/// Asserts that an import is refused in these words, and that nothing is visible of it.
#[track_caller]
fn assert_refused(desk: &Desk, arguments: &[&str], expected: &str) {
    let before = oci::picture(desk.address()).unwrap();
    let answer = importer(desk, arguments.iter().copied()).code(1);
    answer.assert_is_refusal();
    assert!(
        answer.stderr.contains(expected),
        "expected `{expected}`\n{answer}"
    );
    assert_eq!(oci::picture(desk.address()).unwrap(), before, "{answer}");
}

/// Writes a layout with one image, whose manifest was changed.
fn changed(desk: &Desk, directory: &str, change: impl FnOnce(&mut Value)) {
    let image = Image::example();
    let blobs = image.blobs(Stored::Plain);
    let mut manifest: Value = serde_json::from_slice(&blobs[0]).unwrap();
    change(&mut manifest);
    let manifest = manifest.to_string().into_bytes();
    let media_type = manifest_type(&manifest);
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(&media_type, &manifest)]});
    desk.write(
        &format!("{directory}/oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    );
    desk.write(&format!("{directory}/index.json"), index.to_string());
    put_blob(desk, directory, &manifest);
    blobs[1..]
        .iter()
        .for_each(|blob| put_blob(desk, directory, blob));
}

fn manifest_type(manifest: &[u8]) -> String {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let said = manifest["mediaType"].as_str();
    said.unwrap_or(oci::MANIFEST).to_owned()
}

#[test]
fn images_that_are_not_there_are_refused() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.write("old.tar", Image::example().docker_old());
    Image::example().layout(&desk, "layout", Stored::Plain);
    desk.write("text", "no archive");
    std::fs::create_dir(desk.path("empty")).unwrap();
    let [tag, repository] =
        ["app:9", "nothing"].map(|name| format!("docker://{}/{name}", desk.address()));
    let elsewhere = Port::reserve().address();
    let elsewhere = format!("docker://{elsewhere}/app");
    let table: [(&[&str], &str); 12] = [
        (
            &["docker-archive:old.tar:app:2"],
            "there is no image `app:2` in `old.tar`; there is `app:1`",
        ),
        (&["docker-archive:missing.tar"], "cannot open `missing.tar`"),
        (&["docker-archive:text"], "it is no tar archive"),
        (&["docker-archive:empty"], "is a directory"),
        (&["oci-archive:old.tar"], "it has no file `oci-layout`"),
        (
            &["oci:layout:2"],
            "there is no image `2` in `layout`; there is `1`",
        ),
        (&["oci:empty"], "is no OCI image layout"),
        (&[&tag], "there is no image `9`"),
        (&[&repository], "there is no image `latest`"),
        (&[&elsewhere], "cannot reach registry"),
        (
            &["oci:layout", "--platform", "linux/arm64"],
            "not there for platform `linux/arm64`; it is for `linux/amd64`",
        ),
        (
            &["oci:layout", "-layer", "nothing:v1"],
            "unknown component `nothing`",
        ),
    ];
    for (arguments, expected) in table {
        assert_refused(&desk, arguments, expected);
    }
    let silent = desk.path("no.sock");
    let answer = importer(&desk, ["docker-daemon:app"])
        .env("DOCKER_HOST", format!("unix://{}", silent.display()))
        .code(1);
    answer.assert_is_refusal();
    assert!(
        answer.stderr.contains("cannot reach the container engine"),
        "{answer}"
    );
    let answer = importer(&desk, ["docker-daemon:app"])
        .env("DOCKER_HOST", "tcp://a:1")
        .code(1);
    answer.assert_is_refusal();
}

#[test]
fn images_of_kinds_that_are_not_deployed_are_refused() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    changed(&desk, "one", |manifest| {
        *manifest = json!({"schemaVersion": 1, "name": "app", "fsLayers": []});
    });
    changed(&desk, "foreign", |manifest| {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        manifest["layers"][1]["mediaType"] = json!(foreign);
    });
    changed(&desk, "urls", |manifest| {
        manifest["layers"][2]["urls"] = json!(["https://registry.example/layer"]);
    });
    changed(&desk, "artifact", |manifest| {
        manifest["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
    });
    changed(&desk, "strange", |manifest| {
        manifest["layers"][0]["mediaType"] = json!("text/plain");
    });
    changed(&desk, "fewer", |manifest| {
        manifest["layers"].as_array_mut().unwrap().pop();
    });
    changed(&desk, "none", |manifest| manifest["layers"] = json!([]));
    changed(&desk, "sizes", |manifest| {
        manifest["layers"][0]["size"] = json!(7)
    });
    let table = [
        ("one", "schema 1"),
        ("foreign", "layer 2 of image `oci:foreign`"),
        ("urls", "layer 3 of image `oci:urls`"),
        ("artifact", "not one of an image"),
        ("strange", "`text/plain`"),
        ("fewer", "lists 4 layers, and it has 3"),
        ("none", "it has no layers"),
        ("sizes", "its manifest says 7"),
    ];
    for (directory, expected) in table {
        assert_refused(
            &desk,
            &[&format!("oci:{directory}"), "-name", "app"],
            expected,
        );
    }
}

#[test]
fn indexes_without_end_are_refused() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let mut inner = descriptor(oci::MANIFEST, b"{}");
    for _ in 0..12 {
        let index =
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}).to_string();
        put_blob(&desk, "deep", index.as_bytes());
        inner = descriptor(INDEX, index.as_bytes());
    }
    desk.write("deep/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    desk.write(
        "deep/index.json",
        json!({"schemaVersion": 2, "manifests": [inner]}).to_string(),
    );
    assert_refused(&desk, &["oci:deep"], "nested more than 8 deep");
}

#[test]
fn layers_that_are_not_what_the_image_says_are_refused() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let no_tar = Image {
        layers: vec![b"no tar archive, but some text".repeat(100)],
        ..Image::example()
    };
    desk.write("text.tar", no_tar.docker_old());
    // Its configuration speaks of other content than its layers have.
    let mut other = Image::example();
    other.layers[0] = Archive::new().file("other", "other").tar();
    let config = other.config_bytes();
    changed(&desk, "diff-id", |manifest| {
        manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &config);
    });
    put_blob(&desk, "diff-id", &config);
    Image::example().layout(&desk, "bytes", Stored::Plain);
    let lowest = digest(&Image::example().layers[0]);
    let path = format!(
        "bytes/blobs/sha256/{}",
        lowest.trim_start_matches("sha256:")
    );
    let mut bytes = std::fs::read(desk.path(&path)).unwrap();
    let content = bytes
        .windows(7)
        .position(|window| window == b"program")
        .unwrap();
    bytes[content + 1024] ^= 1;
    desk.write(&path, bytes);
    let whole = Image::example().docker_old();
    desk.write("cut.tar", &whole[..whole.len() / 2]);
    let table: [(&[&str], &str); 4] = [
        (&["docker-archive:text.tar"], "not a tar archive"),
        (&["oci:diff-id", "-name", "a"], "cannot be a layer"),
        (&["oci:bytes", "-name", "b"], "cannot be a layer"),
        (&["docker-archive:cut.tar"], "cut short"),
    ];
    for (arguments, expected) in table {
        assert_refused(&desk, arguments, expected);
    }
}

#[test]
fn archives_that_lead_elsewhere_are_refused() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = Image::example();
    let item = |config: &str, layer: &str| {
        json!([{"Config": config, "RepoTags": ["app:1"], "Layers": [layer]}]).to_string()
    };
    let one = Image {
        layers: vec![image.layers[0].clone()],
        ..image
    };
    let archive = |layer: &str| {
        Archive::new()
            .file("config.json", one.config_bytes())
            .file("manifest.json", item("config.json", layer))
    };
    let link = |name: &str, target: &str| archive("a").symbolic_link(name, target).tar();
    desk.write("secret", &one.layers[0]);
    let secret = desk.path("secret").display().to_string();
    assert!(secret.len() <= 100, "it has to fit into a header");
    let bomb = format!("[{}]", "[".repeat(100_000));
    let table = [
        ("absolute", link("a", &secret), "leads out of it"),
        ("upwards", link("a", "../../secret"), "leads out of it"),
        (
            "circle",
            archive("a")
                .symbolic_link("a", "b")
                .symbolic_link("b", "a")
                .tar(),
            "have no end",
        ),
        ("outside", archive("../secret").tar(), "leads out of it"),
        ("missing", archive("a").tar(), "it has no file `a`"),
        (
            "device",
            archive("a")
                .entry(EntryType::Char, "a", "", 0o644, b"")
                .tar(),
            "it has no file `a`",
        ),
        (
            "bomb",
            Archive::new().file("manifest.json", bomb).tar(),
            "`manifest.json` is not valid",
        ),
        (
            "large",
            Archive::new()
                .file("manifest.json", " ".repeat(17 << 20))
                .tar(),
            "at most 16777216 are allowed",
        ),
        (
            "config",
            Archive::new()
                .file(&format!("{}.json", "0".repeat(64)), "{}")
                .file(
                    "manifest.json",
                    item(&format!("{}.json", "0".repeat(64)), "a"),
                )
                .tar(),
            "has digest",
        ),
    ];
    for (name, bytes, expected) in table {
        desk.write(&format!("{name}.tar"), bytes);
        assert_refused(&desk, &[&format!("docker-archive:{name}.tar")], expected);
    }
}

#[test]
fn names_that_do_not_fit_are_refused_with_the_way_to_choose_one() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let named = |name: &str| Image {
        name: name.to_owned(),
        ..Image::example()
    };
    desk.write("upper.tar", named("app:V1").docker_old());
    let items = json!([
        {"Config": "a", "RepoTags": ["app:1"], "Layers": []},
        {"Config": "b", "RepoTags": ["app:1"], "Layers": []},
    ]);
    let twice = Archive::new().file("manifest.json", items.to_string());
    desk.write("twice.tar", twice.tar());
    let table: [(&[&str], &str); 4] = [
        (&["docker-archive:upper.tar"], "hint: choose one with -name"),
        (
            &["docker-archive:twice.tar"],
            "has 2 images: `app:1`, `app:1`",
        ),
        (&["docker-archive:twice.tar:app:1"], "has 2 images"),
        (
            &[
                "docker-archive:upper.tar",
                "-name",
                "a",
                "--component-prefix",
                "A",
            ],
            "--component-prefix",
        ),
    ];
    for (arguments, expected) in table {
        assert_refused(&desk, arguments, expected);
    }
    for arguments in [
        &["app:1"][..],
        &["docker-archive:upper.tar", "-name", "A"],
        &["dir:a"],
    ] {
        let answer = importer(&desk, arguments.iter().copied()).code(2);
        answer.assert_is_refusal();
    }
}

#[test]
fn registries_that_do_not_let_us_write_are_refused_by() {
    let keys = Desk::at("");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJfDl0e6WOLXv5MnKjTZXbFjdrRc6OHvXM1uIHRJHt2g somebody\n";
    let operators = keys.write("operators", key);
    let registry = Registry::start_with(&["-opauth", operators.to_str().unwrap()]);
    let desk = Desk::at(format!("http://{}", registry.address()));
    desk.write("old.tar", Image::example().docker_old());
    let answer = importer(&desk, ["docker-archive:old.tar"]).code(1);
    answer.assert_is_refusal();
    assert!(
        answer.stderr.contains("asks for authentication"),
        "{answer}"
    );
    let nobody = Port::reserve();
    let gone = Desk::at(nobody.address().to_string());
    gone.write("old.tar", Image::example().docker_old());
    let answer = importer(&gone, ["docker-archive:old.tar"]).code(1);
    answer.assert_is_refusal();
    assert!(answer.stderr.contains("cannot reach registry"), "{answer}");
}
