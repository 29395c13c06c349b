//! Category "Pull": what every registry must answer to a reader.

mod blobs;
mod conditional;
mod head;
mod manifests;
mod proxy;
mod ranges;

use crate::check::Check;

/// The tables of this category, in order.
pub(super) const TABLES: &[&[Check]] = &[
    manifests::CHECKS,
    blobs::CHECKS,
    ranges::CHECKS,
    head::CHECKS,
    conditional::CHECKS,
    proxy::CHECKS,
];
