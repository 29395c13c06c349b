//! See `deploy_registry::fuzzing::strangers`.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| deploy_registry::fuzzing::strangers(input));
