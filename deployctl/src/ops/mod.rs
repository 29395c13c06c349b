//! The verbs, with typed results. For the command line, and for whoever else composes
//! configurations; nothing here prints.
//!
//! A [`Project`] says where: a registry, a prefix, a clock. Each verb is a method of it, in the
//! file of its noun:
//! * `publish`: [`Project::add_version`], [`Project::push`]
//! * `compose`: [`Project::add_configuration`], [`Project::change_configuration`],
//!   [`Project::bump_configuration`]
//! * `import`: [`Project::plan_import`], [`Project::import_layers`],
//!   [`Project::import_configuration`]
//! * `show`: what there is
//! * `signatures`: [`Project::sign_release`], [`Project::signatures`]
//! * `delete`: what shall no longer be
//! * `audit`: who did what
//!
//! # How a release is made
//! Without locks, by any number of clients at once, none of which may be waited for. The
//! channel is read: manifest D, number N. The new release is written under its own tag
//! `v<N+1>`, with D as its parent, on the condition that the tag is new; then the channel is
//! moved to it, on the condition that it still is D. Whoever finds `v<N+1>` taken by a release
//! with parent D starts over, and where it is still so then, moves the channel for its maker,
//! who may have died in between. So each round of the contest has a winner, and no change is lost.
//!
//! A release that is signed is so before it has its tag: somebody else may move the channel to it
//! from then on, and hosts shall not find it without its signature.
//!
//! A registry without conditional writes is found out by one that must not succeed. There a
//! number belongs to whoever wrote its tag last, once it has stayed as it is for a moment that
//! is long against a request; only then is the channel moved. That is safe while requests take
//! less than the moment, costs it with every release, and is the most that plain reads and
//! writes allow.

mod audit;
mod compose;
mod contest;
mod delete;
mod error;
mod import;
mod project;
mod publish;
mod release;
mod show;
mod signatures;
mod usage;
mod version;

pub use compose::{Bump, LayerChange, architecture};
pub use error::OpsError;
pub use import::{ImageLayer, ImportedImage, ImportedLayer, PlannedLayer, Standing};
pub use project::Project;
pub use publish::{Added, Source};
pub use release::{Outcome, Shown};
pub use show::ShownVersion;
pub use signatures::{ReleaseName, ReleaseNameError, Signatures, Signed};
