//! Every name that parses is displayed as it was written, and its message never panics.
#![no_main]
use deploy_spec::{
    Channel, ComponentName, LayerReference, Prefix, Reference, ReleaseNumber, RepositoryName, Tag,
};
use libfuzzer_sys::fuzz_target;

fn check<T: std::str::FromStr<Err: std::fmt::Display> + std::fmt::Display>(text: &str) {
    match text.parse::<T>() {
        Ok(name) => assert_eq!(name.to_string(), text),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fuzz_target!(|text: &str| {
    check::<RepositoryName>(text);
    check::<ComponentName>(text);
    check::<Tag>(text);
    check::<Channel>(text);
    check::<ReleaseNumber>(text);
    check::<Reference>(text);
    check::<LayerReference>(text);
    check::<Prefix>(text.trim_matches('/'));
    if let Ok(name) = text.parse::<RepositoryName>() {
        if let Some((prefix, owned)) = Prefix::split_any(&name) {
            assert_eq!(prefix.split(&name), Some(owned));
        }
    }
});
