//! Container images as configurations: imported from wherever they are, as what they were, with as
//! few bytes moved as possible; and what cannot be imported leaves nothing behind.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

mod damaged;
mod engine;
mod flattened;
mod image;
mod moved;
mod peers;
mod refused;
mod sources;
mod unit;
mod verified;

use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::oci::{self, Manifest};
use deploy_tests::programs::Program;
use serde_json::Value;

/// `deploy-from-docker` with these arguments.
fn importer<'a>(desk: &Desk, arguments: impl IntoIterator<Item = &'a str>) -> Run {
    desk.run(Program::FromDocker.path())
        .env_remove("DOCKER_HOST")
        .env("TMPDIR", desk.home())
        .args(arguments)
}

/// What an import says it did.
#[track_caller]
fn import<'a>(desk: &Desk, arguments: impl IntoIterator<Item = &'a str>) -> Value {
    let answer = importer(desk, arguments).args(["--output", "json"]).ok();
    serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}\n{answer}"))
}

/// What was done for the bytes of each layer.
fn contents(made: &Value) -> Vec<&str> {
    let layers = made["layers"].as_array().unwrap();
    let content = |layer: &'_ Value| layer["content"].as_str().map(str::len).is_some();
    assert!(layers.iter().all(content));
    layers
        .iter()
        .map(|layer| layer["content"].as_str().unwrap())
        .collect()
}

/// The release that a configuration's channel is, with its image configuration.
fn release(desk: &Desk, configuration: &str) -> (Manifest, Value) {
    let repository = format!("configs/{configuration}");
    let manifest = oci::manifest(desk.address(), &repository, "latest")
        .unwrap()
        .unwrap();
    let config = manifest.json["config"]["digest"].as_str().unwrap();
    let config = oci::blob(desk.address(), &repository, config)
        .unwrap()
        .unwrap();
    (manifest, serde_json::from_slice(&config).unwrap())
}

/// The digests of a release's layers.
fn digests(release: &Manifest) -> Vec<String> {
    let layers = release.json["layers"].as_array().unwrap();
    layers
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect()
}
