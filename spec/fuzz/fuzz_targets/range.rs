//! Ranges that are selected lie within the content.
#![no_main]
use deploy_spec::range::{ByteRange, Selection, select};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &str)| {
    let (length, header) = input;
    let check = |range: &ByteRange| assert!(range.first <= range.last && range.last < length);
    match select(header, length) {
        Selection::Part(range) => check(&range),
        Selection::Parts(ranges) => ranges.iter().for_each(check),
        Selection::Whole | Selection::Unsatisfiable => {}
    }
    if let Ok(range) = header.parse::<ByteRange>() {
        assert_eq!(range.to_string().parse::<ByteRange>(), Ok(range));
    }
});
