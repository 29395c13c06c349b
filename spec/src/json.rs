//! Canonical JSON: the one form in which this crate writes documents whose digest matters.

use serde::Serialize;
use serde_json::Value;

/// Returns the document as compact UTF-8 JSON with the keys of every object sorted bytewise.
///
/// The same value gives the same bytes on every machine, whatever the order of the maps it
/// was built from, so that equal documents have equal digests.
pub(crate) fn canonical(document: &impl Serialize) -> Vec<u8> {
    let value = serde_json::to_value(document).expect("documents have string keys only");
    serde_json::to_vec(&sorted(value)).expect("a value always serialises")
}

/// Sorts explicitly: another crate of the build may switch on insertion order in `serde_json`.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|(left, _), (right, _)| left.cmp(right));
            entries
                .into_iter()
                .map(|(key, value)| (key, sorted(value)))
                .collect()
        }
        scalar => scalar,
    }
}
