//! Normalising arguments twice is normalising them once.
#![no_main]
use deploy_spec::arguments::normalise;
use libfuzzer_sys::fuzz_target;
use std::ffi::OsString;

fuzz_target!(|arguments: Vec<String>| {
    let once = normalise(arguments.iter().map(OsString::from));
    assert_eq!(once.len(), arguments.len());
    assert_eq!(normalise(once.clone()), once);
});
