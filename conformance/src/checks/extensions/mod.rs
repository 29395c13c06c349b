//! Extensions, habits beyond the specification, and the rules that hold for every answer.

mod answers;
mod catalog;
mod discover;
mod long_poll;

use crate::check::Check;

/// The tables of this category, in order.
pub(super) const TABLES: &[&[Check]] = &[discover::CHECKS, catalog::CHECKS, long_poll::CHECKS];

/// The table that looks at what all other answers have shown.
pub(super) const LAST: &[Check] = answers::CHECKS;
