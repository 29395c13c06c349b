//! What fuzzing found worth keeping, once more. A program of its own, since it counts whatever is
//! allocated in it.

use std::path::Path;

use peak_alloc::PeakAlloc;

#[path = "../fuzz/checks.rs"]
mod checks;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

#[test]
fn layers_of_the_corpus_are_planned_within_their_limits() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/plan");
    let mut inputs: Vec<_> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    assert!(inputs.len() > 100, "{} inputs", inputs.len());
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        let check = || checks::plan_stays_within(&bytes, &ALLOCATED);
        let checked = std::panic::catch_unwind(check);
        assert!(checked.is_ok(), "`{}`", input.display());
    }
}
