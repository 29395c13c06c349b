//! The examples of the README are what the code reads and writes.

use deploy_spec::{ComponentVersion, Release, ReleaseNumber};
use serde_json::Value;

const README: &str = include_str!("../README.md");

/// Returns the text of the fenced block with this info string.
fn example(info: &str) -> &'static str {
    let fence = format!("```{info}\n");
    let start = README.find(&fence).expect("the README has the example") + fence.len();
    let end = README[start..].find("\n```").expect("the block is closed");
    &README[start..start + end]
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("the document is JSON")
}

#[test]
fn component_example_is_parsed_and_written_back() {
    let example = example("json component").as_bytes();
    let version =
        ComponentVersion::parse("code".parse().unwrap(), "v01".parse().unwrap(), example).unwrap();
    assert_eq!(version.revision.as_deref(), Some("1f0c2b7"));
    assert_eq!(version.layer.unpacked_size, Some(10240));
    assert_eq!(value(&version.to_manifest()), value(example));
}

#[test]
fn release_example_is_parsed_and_written_back() {
    let manifest = example("json release").as_bytes();
    let config = example("json config").as_bytes();
    let release = Release::parse("project1".parse().unwrap(), manifest, config).unwrap();
    assert_eq!(release.number, ReleaseNumber::new(2));
    assert_eq!(release.layers[0].reference().to_string(), "code:v01");
    assert_eq!(
        release.image.environment(),
        [("MODE".to_owned(), "production".to_owned())]
    );
    let documents = release.to_documents().unwrap();
    assert_eq!(documents.config, config);
    assert_eq!(value(&documents.manifest), value(manifest));
}
