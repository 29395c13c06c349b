//! Planning ends, within its limits and its memory, in a tree that stays within its root.
#![no_main]
use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;

#[path = "../checks.rs"]
mod checks;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

fuzz_target!(|input: &[u8]| checks::plan_stays_within(input, &ALLOCATED));
