//! Why an import failed. Returned by everything in this crate; nothing was made visible then.

use std::{io, path::PathBuf};

use deploy_spec::{Digest, LayerReference, NameError};
use deployctl::{
    archive::ArchiveError,
    client::{AddressError, ClientError},
    layout::LayoutError,
    ops::OpsError,
};

/// Why an import failed; what agents and other clients see of the registry is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The target, or a component version there.
    #[error(transparent)]
    Ops(#[from] OpsError),
    /// A registry that the image is in, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The address of that registry.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An OCI image layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file of this machine.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No image of that name where one was looked for.
    #[error("there is no image `{}` in `{}`{}", wanted.escape_debug(), place.escape_debug(), listed("; there is", there))]
    NoSuchImage {
        /// Where it was looked for.
        place: String,
        /// What was asked for.
        wanted: String,
        /// What there is instead.
        there: Vec<String>,
    },
    /// Several images, and it was not said which.
    #[error("`{}` has {count} images{}\nhint: say which of them, behind a colon", place.escape_debug(), listed(":", there))]
    SeveralImages {
        /// Where they are.
        place: String,
        /// How many there are.
        count: usize,
        /// Their names, as far as they have some.
        there: Vec<String>,
    },
    /// The image is not there for that platform.
    #[error("image `{}` is not there for platform `{wanted}`{}\nhint: choose one with --platform", image.escape_debug(), listed("; it is for", there))]
    NoSuchPlatform {
        /// The image.
        image: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// Indexes nested without end.
    #[error("image `{}` is not read: its indexes are nested more than {limit} deep", image.escape_debug())]
    TooDeep {
        /// The image.
        image: String,
        /// How deep they may be.
        limit: usize,
    },
    /// An image of the first kind that there was, without digests of its layers.
    #[error(
        "image `{}` has a manifest of Docker's schema 1, which is not supported\nhint: pull and push it again with a container engine of today", image.escape_debug()
    )]
    SchemaOne {
        /// The image.
        image: String,
    },
    /// A layer that must not be distributed, or lies elsewhere.
    #[error(
        "layer {position} of image `{}` (`{digest}`) is a foreign layer, which is not in the image and must not be distributed", image.escape_debug()
    )]
    ForeignLayer {
        /// The image.
        image: String,
        /// Which layer, from 1.
        position: usize,
        /// Its digest.
        digest: Digest,
    },
    /// What is there is no image that can be a configuration.
    #[error("`{}` is no image that can be imported: {reason}", image.escape_debug())]
    NotAnImage {
        /// What it was called.
        image: String,
        /// Why not.
        reason: String,
    },
    /// A file that is no archive of images.
    #[error("`{}` is no archive of an image: {reason}", path.display())]
    NotAnArchive {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A document of an image that is larger than any should be.
    #[error("`{}` is not read: it has {size} bytes, at most {limit} are allowed", what.escape_debug())]
    TooLarge {
        /// The document.
        what: String,
        /// Its size.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// Content that is not what its name says.
    #[error("`{}` has digest `{found}`, not `{expected}`", what.escape_debug())]
    Digest {
        /// The content.
        what: String,
        /// What its name says.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// A container engine that does not answer.
    #[error("cannot reach the container engine at `{}`: {reason}\nhint: is it running, and may you use it? DOCKER_HOST=unix:///PATH names another socket", socket.display())]
    NoDaemon {
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A container engine that does not give the image out.
    #[error("the container engine does not give image `{}` out: {reason}", image.escape_debug())]
    Daemon {
        /// The image.
        image: String,
        /// What it said.
        reason: String,
    },
    /// A layer cannot be compressed otherwise.
    #[error("cannot compress layer {position} anew")]
    Recompress {
        /// Which layer, from 1.
        position: usize,
        /// Why not.
        #[source]
        source: ArchiveError,
    },
    /// The layers cannot become one.
    #[error("cannot make one layer of the image's")]
    Flatten(#[source] ArchiveError),
    /// The bytes of a stream cannot be kept.
    #[error("cannot read the archive of images from {origin}")]
    Stream {
        /// Where it comes from.
        origin: String,
        /// Why not.
        #[source]
        source: ArchiveError,
    },
    /// The image's name makes none of a configuration.
    #[error("image `{}` gives no name for a configuration: {source}\nhint: choose one with -name", image.escape_debug())]
    Name {
        /// The image.
        image: String,
        /// The rule that it breaks.
        source: NameError,
    },
    /// The image has no name.
    #[error(
        "the image has no name that its configuration could be called after\nhint: choose one with -name"
    )]
    NoName,
    /// The prefix makes no names of components.
    #[error("{source}\nhint: choose how components are called with --component-prefix")]
    ComponentName {
        /// The rule that it breaks.
        source: NameError,
    },
    /// A layer to add on top whose component an image's layer has.
    #[error("layer `{0}` is part of the image already")]
    LayerTwice(LayerReference),
    /// A blocking task was lost, which happens while the program ends.
    #[error("the work was cut short: {0}")]
    Cancelled(#[from] tokio::task::JoinError),
}

fn listed(before: &str, names: &[String]) -> String {
    /// So many are shown.
    const SHOWN: usize = 20;
    if names.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", name.escape_debug()))
        .collect();
    let more = match names.len() > SHOWN {
        true => ", …",
        false => "",
    };
    format!("{before} {}{more}", shown.join(", "))
}

/// Returns the error of a file operation for use with `map_err`.
pub(crate) fn failed(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.into();
    move |source| ImportError::File {
        action,
        path,
        source,
    }
}
