//! Names of a tree as text, for people and for JSON: nothing that a terminal would obey, and
//! nothing lost of names that are no text.

use std::{fmt, os::unix::ffi::OsStrExt, path::Path};

use super::error::escape_all;

/// Displays a path whole: text as it is, control characters and what is no UTF-8 escaped; the
/// root, which is empty, as `.`.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_os_str().as_bytes() {
            [] => formatter.write_str("."),
            name => formatter.write_str(&escape_all(name)),
        }
    }
}
