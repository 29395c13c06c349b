//! A manifest that parses has a descriptor that survives a round trip.
#![no_main]
use deploy_spec::{Descriptor, Digest, Outline};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(outline) = Outline::parse(None, bytes) else {
        return;
    };
    let descriptor = outline.descriptor(Digest::sha256(bytes), bytes.len() as u64);
    let json = serde_json::to_vec(&descriptor).expect("a descriptor is JSON");
    assert_eq!(
        serde_json::from_slice::<Descriptor>(&json).expect("it was written here"),
        descriptor
    );
});
