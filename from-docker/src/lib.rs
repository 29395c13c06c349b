//! What `deploy-from-docker` is made of.

pub mod unit;
