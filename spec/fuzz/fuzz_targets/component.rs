//! A component version that parses is written so that it parses to the same.
#![no_main]
use deploy_spec::ComponentVersion;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parse = |bytes: &[u8]| {
        let component = "code".parse().expect("it fits the grammar");
        let version = "v01".parse().expect("it fits the grammar");
        ComponentVersion::parse(component, version, bytes)
    };
    if let Ok(version) = parse(bytes) {
        assert_eq!(
            parse(&version.to_manifest()).expect("it was written here"),
            version
        );
    }
});
