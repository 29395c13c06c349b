//! What a registry holds, asked for with plain requests: no client of ours or anyone's stands between. Called by
//! the scenarios.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::http;

/// The media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a layer compressed with gzip.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A manifest as it is stored.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The digest of its bytes.
    pub digest: String,
    /// Its content.
    pub json: Value,
}

impl Manifest {
    /// The digests of its config and its layers.
    pub fn blobs(&self) -> Vec<String> {
        let layers = self.json["layers"].as_array().cloned().unwrap_or_default();
        let all = layers.iter().chain([&self.json["config"]]);
        all.filter_map(|descriptor| Some(descriptor["digest"].as_str()?.to_owned()))
            .collect()
    }

    /// One of its annotations; empty when it is not there.
    pub fn annotation(&self, key: &str) -> &str {
        self.json["annotations"][key].as_str().unwrap_or_default()
    }
}

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The manifest at a tag or digest, or `None` where there is none.
///
/// # Errors
/// When the registry does not answer, answers anything but 200 or 404, or sends bytes that do not have the digest it
/// names or was asked for.
pub fn manifest(address: &str, repository: &str, reference: &str) -> Result<Option<Manifest>> {
    let target = format!("/v2/{repository}/manifests/{reference}");
    let accept = [
        ("Accept", MANIFEST),
        (
            "Accept",
            "application/vnd.docker.distribution.manifest.v2+json",
        ),
    ];
    let reply = http::request(address, "GET", &target, &accept, b"")?;
    if reply.status == 404 {
        return Ok(None);
    }
    ensure!(
        reply.status == 200,
        "GET `{target}` answered {}: {}",
        reply.status,
        reply.text()
    );
    let digest = digest(&reply.body);
    ensure!(
        reply.header("docker-content-digest") == Some(&digest),
        "`{target}` has other bytes than its digest says"
    );
    ensure!(
        !reference.contains(':') || reference == digest,
        "`{target}` is answered with `{digest}`"
    );
    Ok(Some(Manifest {
        digest,
        json: serde_json::from_slice(&reply.body).context("parse a manifest")?,
    }))
}

/// The bytes of a blob, or `None` where there is none.
///
/// # Errors
/// When the registry does not answer, answers anything but 200 or 404, or sends bytes that do not have that digest.
pub fn blob(address: &str, repository: &str, wanted: &str) -> Result<Option<Vec<u8>>> {
    let target = format!("/v2/{repository}/blobs/{wanted}");
    let reply = http::get(address, &target)?;
    if reply.status == 404 {
        return Ok(None);
    }
    ensure!(
        reply.status == 200,
        "GET `{target}` answered {}: {}",
        reply.status,
        reply.text()
    );
    ensure!(
        digest(&reply.body) == wanted,
        "`{target}` has {} bytes of another digest",
        reply.body.len()
    );
    Ok(Some(reply.body))
}

/// The tags of a repository; none where it does not exist.
///
/// # Errors
/// When the registry does not answer as the specification says.
pub fn tags(address: &str, repository: &str) -> Result<Vec<String>> {
    strings(
        address,
        format!("/v2/{repository}/tags/list?n=1000"),
        "tags",
    )
}

/// All repositories.
///
/// # Errors
/// When the registry does not answer as the specification says.
pub fn repositories(address: &str) -> Result<Vec<String>> {
    strings(address, "/v2/_catalog?n=1000".to_owned(), "repositories")
}

/// Every tag of every repository with the digest it stands for: all that an operator can see. Two pictures are equal
/// when nothing was changed between them.
///
/// # Errors
/// When the registry does not answer as the specification says.
pub fn picture(address: &str) -> Result<BTreeMap<String, String>> {
    let mut picture = BTreeMap::new();
    for repository in repositories(address)? {
        for tag in tags(address, &repository)? {
            let manifest =
                manifest(address, &repository, &tag)?.context("a listed tag has a manifest")?;
            picture.insert(format!("{repository}:{tag}"), manifest.digest);
        }
    }
    Ok(picture)
}

/// Pushes a blob in one request after opening an upload.
///
/// # Errors
/// When the registry does not take it.
pub fn push_blob(address: &str, repository: &str, bytes: &[u8]) -> Result<String> {
    let digest = digest(bytes);
    let location = open_upload(address, repository)?;
    let reply = http::request(address, "PUT", &with_digest(&location, &digest), &[], bytes)?;
    ensure!(
        reply.status == 201,
        "PUT of a blob answered {}: {}",
        reply.status,
        reply.text()
    );
    Ok(digest)
}

/// Opens an upload and returns where it goes on.
///
/// # Errors
/// When the registry does not answer as the specification says.
pub fn open_upload(address: &str, repository: &str) -> Result<String> {
    let reply = http::request(
        address,
        "POST",
        &format!("/v2/{repository}/blobs/uploads/"),
        &[],
        b"",
    )?;
    ensure!(
        reply.status == 202,
        "POST of an upload answered {}: {}",
        reply.status,
        reply.text()
    );
    Ok(reply
        .header("location")
        .context("an upload has a location")?
        .to_owned())
}

/// The location of an upload with the digest that closes it.
pub fn with_digest(location: &str, digest: &str) -> String {
    format!(
        "{location}{}digest={digest}",
        if location.contains('?') { '&' } else { '?' }
    )
}

/// Pushes a manifest under a tag and returns its digest.
///
/// # Errors
/// When the registry does not take it.
pub fn push_manifest(
    address: &str,
    repository: &str,
    tag: &str,
    manifest: &Value,
) -> Result<String> {
    let bytes = serde_json::to_vec(manifest)?;
    let target = format!("/v2/{repository}/manifests/{tag}");
    let reply = http::request(
        address,
        "PUT",
        &target,
        &[("Content-Type", MANIFEST)],
        &bytes,
    )?;
    ensure!(
        reply.status == 201,
        "PUT `{target}` answered {}: {}",
        reply.status,
        reply.text()
    );
    Ok(digest(&bytes))
}

/// Pushes an image of one layer, a plain tar, as a builder of images would.
///
/// # Errors
/// When the registry does not take it.
pub fn push_image(address: &str, repository: &str, tag: &str, layer: &[u8]) -> Result<String> {
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [digest(layer)] },
    }))?;
    for blob in [&config[..], layer] {
        push_blob(address, repository, blob)?;
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(&config),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": digest(layer),
            "size": layer.len(),
        }],
    });
    push_manifest(address, repository, tag, &manifest)
}

/// A manifest of one layer, as other clients write it: with an empty config.
pub fn artifact(layer: &[u8], annotation: &str) -> Value {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.thing",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2 },
        "layers": [{ "mediaType": LAYER, "digest": digest(layer), "size": layer.len() }],
        "annotations": { "dev.example.note": annotation },
    })
}

fn strings(address: &str, target: String, key: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut next = Some(target);
    while let Some(target) = next {
        let reply = http::get(address, &target)?;
        if reply.status == 404 {
            break;
        }
        ensure!(
            reply.status == 200,
            "GET `{target}` answered {}: {}",
            reply.status,
            reply.text()
        );
        let body: Value = serde_json::from_slice(&reply.body)?;
        // Distribution answers `null` for a repository whose last tag is gone.
        let page = body[key].as_array().cloned().unwrap_or_default();
        found.extend(
            page.iter()
                .filter_map(|name| Some(name.as_str()?.to_owned())),
        );
        next = reply
            .header("link")
            .and_then(|link| Some(link.split_once('<')?.1.split_once('>')?.0.to_owned()));
    }
    Ok(found)
}
