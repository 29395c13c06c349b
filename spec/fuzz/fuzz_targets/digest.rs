//! Every digest that parses is displayed as it was written; saved hash states never panic.
#![no_main]
use deploy_spec::{Algorithm, Digest, Hasher};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text);
            assert_eq!(Digest::from_file_name(&digest.file_name()), Ok(digest));
        }
        let _ = Digest::from_file_name(text);
    }
    for algorithm in Algorithm::ALL {
        if let Ok(mut hasher) = Hasher::resume(algorithm, bytes) {
            hasher.update(bytes);
            hasher.finish();
        }
    }
});
