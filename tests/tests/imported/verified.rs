//! Large layers that are compressed: what is certain of them before their last bytes are sent, and what hosts
//! are left to find out.

use deploy_tests::archive::{Archive, gzip};
use deploy_tests::desk::Desk;
use deploy_tests::oci::{self, digest};
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;
use serde_json::{Value, json};

use crate::image::{Image, Stored, descriptor, put_blob};
use crate::{contents, import, importer, release};

const DIFF_ID: &str = "dev.deploytools.diff-id";

/// Larger than what is decompressed in any case, however it is compressed.
fn noise() -> Vec<u8> {
    let mut content = vec![0; 17 << 20];
    rand::fill(&mut content[..]);
    content
}

/// An image of one layer with this content.
fn image(layer: Vec<u8>) -> Image {
    Image {
        layers: vec![layer],
        ..Image::example()
    }
}

/// Writes a layout of one image with these bytes as its layer, which the image says is `said`.
fn lying(desk: &Desk, directory: &str, said: &Image, layer: &[u8]) {
    let config = said.config_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": oci::MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(oci::MANIFEST, &manifest)]});
    desk.write(
        &format!("{directory}/oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    );
    desk.write(&format!("{directory}/index.json"), index.to_string());
    for blob in [&manifest, &config, layer] {
        put_blob(desk, directory, blob);
    }
}

/// What the component version of the first layer that was made says of its bytes.
fn said(desk: &Desk, made: &Value) -> Value {
    let layer = &made["layers"][0];
    let repository = format!("components/{}", layer["component"].as_str().unwrap());
    let version = layer["version"].as_str().unwrap();
    let manifest = oci::manifest(desk.address(), &repository, version).unwrap();
    manifest.unwrap().json["layers"][0]["annotations"].clone()
}

#[test]
fn what_an_image_says_of_a_large_layer_is_verified_where_that_is_asked_for() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let [true_image, other] = ["file", "other"].map(|name| {
        let mut archive = Archive::new().file(name, noise()).tar();
        // As umoci writes it: without its end mark.
        archive.truncate(archive.len() - 1024);
        image(archive)
    });
    let layer = gzip(&true_image.layers[0]);
    lying(&desk, "lie", &other, &layer);
    lying(&desk, "cut", &true_image, &layer[..layer.len() - 20]);
    true_image.layout(&desk, "truth", Stored::Gzip);
    let before = oci::picture(desk.address()).unwrap();
    for (source, expected) in [("oci:lie", "cannot be a layer"), ("oci:cut", "cut off")] {
        let answer = importer(&desk, [source, "-name", "a", "--verify-layers"]).code(1);
        answer.assert_is_refusal();
        assert!(answer.stderr.contains(expected), "{answer}");
        assert_eq!(oci::picture(desk.address()).unwrap(), before, "{answer}");
    }

    // Otherwise hosts find out, and only those of this image.
    let made = import(&desk, ["oci:lie", "-name", "lie"]);
    assert_eq!(said(&desk, &made)[DIFF_ID], Value::Null);
    let script = desk.script("deploy.sh", "true");
    let refused = desk.agent_once("lie", "lie", &script).code(1);
    assert!(refused.stderr.contains(&other.diff_ids()[0]), "{refused}");
    let made = import(&desk, ["oci:truth", "-name", "truth"]);
    assert_eq!(made["layers"][0]["component"], "lie.l1");
    let (_, config) = release(&desk, "truth");
    assert_eq!(config["rootfs"]["diff_ids"], json!(true_image.diff_ids()));
    desk.agent_once("truth", "truth", &script).ok();
    assert_eq!(Tree::of(desk.current("truth")).paths(), ["file"]);
    // What the import left open is read before it is part of another release.
    let layer = digest(&layer).replace("sha256:", "lie.l1:");
    desk.compose("composed", &[&layer]);
    let (_, config) = release(&desk, "composed");
    assert_eq!(config["rootfs"]["diff_ids"], json!(true_image.diff_ids()));
    desk.agent_once("composed", "composed", &script).ok();
    assert_eq!(Tree::of(desk.current("composed")).paths(), ["file"]);
}

#[test]
fn nothing_is_said_of_a_layer_that_was_mounted() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let truth = Image::example();
    let lie = Image {
        layers: (0..4)
            .map(|_| Archive::new().file("other", "").tar())
            .collect(),
        ..Image::example()
    };
    // The configuration of one image, the layers of another.
    let (mut blobs, config) = (truth.blobs(Stored::Gzip), lie.config_bytes());
    let mut manifest: Value = serde_json::from_slice(&blobs[0]).unwrap();
    manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &config);
    blobs.push(config);
    for blob in &blobs[1..] {
        oci::push_blob(desk.address(), "team/app", blob).unwrap();
    }
    oci::push_manifest(desk.address(), "team/app", "1", &manifest).unwrap();
    let source = format!("docker://{}/team/app:1", desk.address());
    let made = import(&desk, [&*source, "-name", "lie"]);
    assert_eq!(contents(&made), ["mounted"; 4]);
    assert_eq!(said(&desk, &made)[DIFF_ID], Value::Null);
    let script = desk.script("deploy.sh", "true");
    desk.agent_once("lie", "lie", &script).code(1);
    // So the lie does not stand in the way of the image that the layers are from.
    truth.layout(&desk, "truth", Stored::Gzip);
    let made = import(&desk, ["oci:truth", "-name", "truth"]);
    assert_eq!(contents(&made), ["there"; 4]);
    desk.agent_once("truth", "truth", &script).ok();
}

#[test]
fn what_was_verified_of_a_layer_is_kept_with_its_component_version() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = image(Archive::new().file("file", noise()).tar());
    image.layout(&desk, "truth", Stored::Gzip);
    let made = import(&desk, ["oci:truth", "-name", "truth", "--verify-layers"]);
    let annotations = said(&desk, &made);
    assert_eq!(annotations[DIFF_ID], json!(image.diff_ids()[0]));
    assert_eq!(
        annotations["dev.deploytools.unpacked-size"],
        image.layers[0].len().to_string()
    );
}

#[test]
fn large_layers_of_other_bytes_or_of_another_kind_are_refused_anyway() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let content = noise();
    let text = image(content.clone());
    text.layout(&desk, "no-tar", Stored::Gzip);
    let archive = image(Archive::new().file("file", content).tar());
    archive.layout(&desk, "bytes", Stored::Gzip);
    let layer = gzip(&archive.layers[0]);
    let name = digest(&layer).replace("sha256:", "bytes/blobs/sha256/");
    let mut changed = layer;
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    desk.write(&name, changed);
    let before = oci::picture(desk.address()).unwrap();
    for source in ["oci:no-tar", "oci:bytes"] {
        let answer = importer(&desk, [source, "-name", "a"]).code(1);
        answer.assert_is_refusal();
        assert!(answer.stderr.contains("cannot be a layer"), "{answer}");
        assert_eq!(oci::picture(desk.address()).unwrap(), before, "{answer}");
    }
}
