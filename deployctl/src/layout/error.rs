//! What can be wrong with a layout. Returned by everything in `layout`.

use std::{io, path::PathBuf};

use deploy_spec::Digest;

/// Why an operation on a layout failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The directory is no layout, or of a version that is not known.
    #[error("`{}` is no OCI image layout: {reason}", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Content that is not what its digest says.
    #[error("`{}` has digest `{found}`, not `{expected}`", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A file operation.
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
}

/// Returns the error of a file operation for use with `map_err`.
pub(super) fn failed(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> LayoutError {
    let path = path.into();
    move |source| LayoutError::File {
        action,
        path,
        source,
    }
}
