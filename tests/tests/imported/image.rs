//! An image made by hand, and everything that it may come in: archives as container engines of
//! several ages write them, and layouts. For engines that do not run here.

use std::path::Path;

use deploy_tests::archive::{Archive, gzip};
use deploy_tests::desk::Desk;
use deploy_tests::oci::digest;
use serde_json::{Value, json};
use tar::EntryType;

/// Layers and a configuration.
#[derive(Clone)]
pub(crate) struct Image {
    /// What an engine calls it.
    pub(crate) name: String,
    /// Plain tar archives, lowest first.
    pub(crate) layers: Vec<Vec<u8>>,
    /// What the configuration says beside them.
    pub(crate) config: Value,
}

/// How layers lie in a layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Plain,
    Gzip,
}

impl Image {
    /// An image of three layers: files and links, one file and one directory removed again with
    /// others in their place, and one layer that is there twice.
    pub(crate) fn example() -> Self {
        let lowest = Archive::new()
            .directory("bin/")
            .entry(
                EntryType::Regular,
                "bin/program",
                "",
                0o755,
                b"#!/bin/sh\necho program\n",
            )
            .hard_link("bin/other", "bin/program")
            .symbolic_link("sbin", "bin")
            .directory("etc/")
            .file("etc/old", "old")
            .directory("etc/all/")
            .file("etc/all/old", "old")
            .tar();
        let middle = Archive::new()
            .file("etc/.wh.old", "")
            .file("etc/all/.wh..wh..opq", "")
            .file("etc/all/new", "new")
            .tar();
        let nothing = Archive::new().tar();
        Self {
            name: "app:1".to_owned(),
            layers: vec![lowest, nothing.clone(), middle, nothing],
            config: json!({
                "architecture": "amd64",
                "os": "linux",
                "created": "2026-01-02T03:04:05Z",
                "author": "somebody",
                "config": {
                    "Env": ["PATH=/bin", "A=b"],
                    "Entrypoint": ["/bin/program"],
                    "Cmd": ["serve"],
                    "WorkingDir": "/etc",
                    "User": "7:8",
                    "Labels": {"org.example.label": "value"},
                },
            }),
        }
    }

    /// The paths that its layers unpack to.
    pub(crate) fn paths() -> [&'static str; 7] {
        [
            "bin",
            "bin/other",
            "bin/program",
            "etc",
            "etc/all",
            "etc/all/new",
            "sbin",
        ]
    }

    /// The digests of its layers as they are.
    pub(crate) fn diff_ids(&self) -> Vec<String> {
        self.layers.iter().map(|layer| digest(layer)).collect()
    }

    pub(crate) fn config_bytes(&self) -> Vec<u8> {
        let mut config = self.config.clone();
        config["rootfs"] = json!({"type": "layers", "diff_ids": self.diff_ids()});
        serde_json::to_vec(&config).expect("a value serialises")
    }

    /// The archive that engines before version 25 wrote: a directory a layer, with a link where
    /// one layer is another one again.
    pub(crate) fn docker_old(&self) -> Vec<u8> {
        let config = self.config_bytes();
        let config_name = format!("{}.json", hexadecimal(&digest(&config)));
        let mut archive = Archive::new().file(&config_name, &config);
        let mut names: Vec<String> = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let id = hexadecimal(&digest(index.to_string().as_bytes()));
            let name = format!("{id}/layer.tar");
            archive = archive
                .directory(&format!("{id}/"))
                .file(&format!("{id}/VERSION"), "1.0")
                .file(&format!("{id}/json"), "{}");
            let twin = self.layers[..index].iter().position(|other| other == layer);
            archive = match twin {
                Some(twin) => archive.symbolic_link(&name, &format!("../{}", names[twin])),
                None => archive.file(&name, layer),
            };
            names.push(name);
        }
        archive
            .file("manifest.json", self.items(&config_name, &names))
            .file("repositories", "{}")
            .tar()
    }

    /// The archive that podman writes: a file a layer, named after its digest.
    pub(crate) fn podman(&self) -> Vec<u8> {
        let config = self.config_bytes();
        let config_name = format!("{}.json", hexadecimal(&digest(&config)));
        let mut archive = Archive::new();
        let mut names: Vec<String> = Vec::new();
        for layer in &self.layers {
            let name = format!("{}.tar", hexadecimal(&digest(layer)));
            if !names.contains(&name) {
                archive = archive.file(&name, layer);
            }
            names.push(name);
        }
        archive
            .file(&config_name, &config)
            .file("manifest.json", self.items(&config_name, &names))
            .tar()
    }

    /// The archive that engines write from version 25 on: a layout, and beside it what they always
    /// wrote.
    pub(crate) fn docker_new(&self, stored: Stored) -> Vec<u8> {
        let blobs = self.blobs(stored);
        let name = |blob: &[u8]| format!("blobs/sha256/{}", hexadecimal(&digest(blob)));
        let names: Vec<String> = blobs[2..].iter().map(|blob| name(blob)).collect();
        let items = self.items(&name(&blobs[1]), &names);
        self.layout_archive_of(&blobs)
            .file("manifest.json", items)
            .tar()
    }

    /// An archive of an OCI image layout.
    pub(crate) fn layout_archive(&self, stored: Stored) -> Vec<u8> {
        self.layout_archive_of(&self.blobs(stored)).tar()
    }

    fn layout_archive_of(&self, blobs: &[Vec<u8>]) -> Archive {
        let mut archive = Archive::new()
            .directory("blobs/")
            .directory("blobs/sha256/")
            .file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", self.index(&blobs[0]).to_string());
        for (index, blob) in blobs.iter().enumerate() {
            if !blobs[..index].contains(blob) {
                let path = format!("blobs/sha256/{}", hexadecimal(&digest(blob)));
                archive = archive.file(&path, blob);
            }
        }
        archive
    }

    /// Writes an OCI image layout to a directory of the desk.
    pub(crate) fn layout(&self, desk: &Desk, directory: &str, stored: Stored) {
        desk.write(
            &format!("{directory}/oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        );
        let blobs = self.blobs(stored);
        desk.write(
            &format!("{directory}/index.json"),
            self.index(&blobs[0]).to_string(),
        );
        for blob in &blobs {
            put_blob(desk, directory, blob);
        }
    }

    /// The manifest, the configuration, and the layers.
    pub(crate) fn blobs(&self, stored: Stored) -> Vec<Vec<u8>> {
        let config = self.config_bytes();
        let (layers, media_type): (Vec<Vec<u8>>, _) = match stored {
            Stored::Plain => (
                self.layers.clone(),
                "application/vnd.oci.image.layer.v1.tar",
            ),
            Stored::Gzip => (
                self.layers.iter().map(|layer| gzip(layer)).collect(),
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
        };
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|layer| descriptor(media_type, layer))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": descriptors,
            "annotations": {
                "org.example.note": "kept",
                "org.opencontainers.image.version": "7.1",
            },
        });
        let manifest = manifest.to_string().into_bytes();
        [manifest, config].into_iter().chain(layers).collect()
    }

    fn index(&self, manifest: &[u8]) -> Value {
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
        json!({"schemaVersion": 2, "manifests": [entry]})
    }

    fn items(&self, config: &str, layers: &[String]) -> String {
        json!([{"Config": config, "RepoTags": [self.name], "Layers": layers}]).to_string()
    }
}

/// Writes a blob to a layout in a directory of the desk.
pub(crate) fn put_blob(desk: &Desk, directory: &str, blob: &[u8]) {
    let name = hexadecimal(&digest(blob));
    desk.write(
        Path::new(directory)
            .join("blobs/sha256")
            .join(name)
            .to_str()
            .expect("it is text"),
        blob,
    );
}

pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

pub(crate) fn hexadecimal(digest: &str) -> String {
    digest.trim_start_matches("sha256:").to_owned()
}
