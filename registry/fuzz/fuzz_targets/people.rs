//! See `deploy_registry::fuzzing::people`.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| deploy_registry::fuzzing::people(input));
