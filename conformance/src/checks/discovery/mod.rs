//! Category "Content Discovery": what is there, and what refers to what.

mod referrer_filter;
mod referrer_pages;
mod referrers;
mod tag_pages;
mod tags;

use crate::check::Check;

/// The tables of this category, in order.
pub(super) const TABLES: &[&[Check]] = &[
    tags::CHECKS,
    tag_pages::CHECKS,
    referrers::CHECKS,
    referrer_filter::CHECKS,
    referrer_pages::CHECKS,
];
