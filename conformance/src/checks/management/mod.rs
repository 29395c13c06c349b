//! Category "Content Management": deleting tags, manifests and blobs.

mod blobs;
mod manifests;
mod tags;

use crate::check::Check;

/// The tables of this category, in order.
pub(super) const TABLES: &[&[Check]] = &[tags::CHECKS, manifests::CHECKS, blobs::CHECKS];
