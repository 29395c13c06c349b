//! A release that parses, and has all its diff ids, is written so that it parses to the same.
//! The input is a configuration; the manifest around it is made to fit.
#![no_main]
use deploy_spec::{Digest, Release};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, String, Vec<u8>)| {
    let (layers, annotations, config) = input;
    let digest = Digest::sha256(&config);
    let annotations = serde_json::from_str(&annotations).unwrap_or(serde_json::Value::Null);
    let layer = serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 1, "annotations": annotations});
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
        "layers": vec![layer; layers as usize % 4],
        "annotations": annotations,
    });
    let manifest = serde_json::to_vec(&manifest).expect("a value always serialises");
    let parse = |manifest: &[u8], config: &[u8]| {
        Release::parse("p".parse().expect("it fits the grammar"), manifest, config)
    };
    let Ok(release) = parse(&manifest, &config) else {
        return;
    };
    release.image.environment();
    if let Ok(documents) = release.to_documents() {
        assert_eq!(
            parse(&documents.manifest, &documents.config).expect("it was written here"),
            release
        );
    }
});
