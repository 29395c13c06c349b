//! Category "Push": how blobs and manifests get into a registry.

mod blobs;
mod cancel;
mod chunk_order;
mod chunk_ranges;
mod chunks;
mod concurrent;
mod conditional;
mod digests;
mod manifest_content;
mod manifest_errors;
mod manifests;
mod mount;
mod names;
mod resume;
mod single_post;
mod streams;
mod subject;
mod tag_parameters;

use crate::check::Check;

/// The tables of this category, in order.
pub(super) const TABLES: &[&[Check]] = &[
    names::CHECKS,
    blobs::CHECKS,
    single_post::CHECKS,
    chunks::CHECKS,
    streams::CHECKS,
    chunk_order::CHECKS,
    chunk_ranges::CHECKS,
    resume::CHECKS,
    cancel::CHECKS,
    digests::CHECKS,
    mount::CHECKS,
    manifests::CHECKS,
    manifest_content::CHECKS,
    manifest_errors::CHECKS,
    subject::CHECKS,
    tag_parameters::CHECKS,
    conditional::CHECKS,
    concurrent::CHECKS,
];
