//! The machine: as a model in all its states, and in single courses of events.

use deploy_spec::Digest;

use super::*;

mod courses;
mod model;

fn id(letter: char) -> Id {
    Digest::sha256(letter.to_string().as_bytes())
}
