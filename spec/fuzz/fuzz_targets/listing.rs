//! Links, listings and error envelopes of any registry are read without a panic.
#![no_main]
use deploy_spec::{
    Envelope,
    listing::{Catalog, Extensions, Referrers, TagList, parse_next_link},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(envelope) = Envelope::parse(bytes) {
        assert_eq!(Envelope::parse(&envelope.to_json()), Some(envelope.clone()));
        let _ = envelope.to_string();
    }
    let _ = serde_json::from_slice::<TagList>(bytes);
    let _ = serde_json::from_slice::<Catalog>(bytes);
    let _ = serde_json::from_slice::<Referrers>(bytes);
    let _ = serde_json::from_slice::<Extensions>(bytes);
    if let Ok(header) = std::str::from_utf8(bytes) {
        if let Some(target) = parse_next_link(header) {
            assert!(header.contains(target));
        }
    }
});
