//! The library against a registry that misbehaves: answers HTML, fails for a moment, breaks
//! connections, knows no conditions. What it does against real ones is tested elsewhere.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something does not hold"
)]

mod contact;
mod releases;
mod resumed;
mod support;
mod tokens;
mod transfers;
mod unfinished;
