//! An image in the store of a container engine: asked for over its socket, and kept as it comes
//! (Docker Engine API, "Export an image"; podman answers the same). Called by `source`.

use std::{error::Error as _, fs::File, io, path::Path, sync::Arc};

use futures::TryStreamExt as _;
use serde::Deserialize;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::spool;
use crate::ImportError;

/// The most that is read of an answer that reports an error.
const REASON_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Returns the archive of an image as `docker save` would write it, in a file without a name.
pub(super) async fn save(
    name: &str,
    socket: &Path,
    scratch: &Path,
) -> Result<Arc<File>, ImportError> {
    let unreachable = |reason: String| ImportError::NoDaemon {
        socket: socket.to_owned(),
        reason,
    };
    let refused = |reason: String| ImportError::Daemon {
        image: name.to_owned(),
        reason,
    };
    let client = reqwest::Client::builder()
        .unix_socket(socket)
        .no_proxy()
        .build();
    let client = client.map_err(|error| unreachable(innermost(&error)))?;
    // The engine takes names with their slashes.
    let mut url: url::Url = "http://engine/".parse().expect("it is a URL");
    let segments = name.split('/');
    url.path_segments_mut()
        .expect("it has a path")
        .push("images")
        .extend(segments)
        .push("get");
    let response = client.get(url).send().await;
    let response = response.map_err(|error| unreachable(innermost(&error)))?;
    let status = response.status();
    if !status.is_success() {
        let mut pieces = response.bytes_stream();
        let mut body = Vec::new();
        while let Ok(Some(piece)) = pieces.try_next().await
            && body.len() < REASON_MAX
        {
            body.extend_from_slice(&piece);
        }
        let said = serde_json::from_slice::<Refusal>(&body).map(|refusal| refusal.message);
        return Err(refused(
            said.unwrap_or_else(|_| format!("it answered {status}")),
        ));
    }
    let pieces = response.bytes_stream();
    let pieces = pieces.map_err(|error| io::Error::other(innermost(&error)));
    let stream = SyncIoBridge::new(StreamReader::new(Box::pin(pieces)));
    let (origin, scratch) = (
        format!("the container engine at `{}`", socket.display()),
        scratch.to_owned(),
    );
    tokio::task::spawn_blocking(move || spool::store(stream, &origin, &scratch)).await?
}

/// Returns the innermost cause as text: the outer ones say no more than that a request failed.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == io::ErrorKind::NotFound => "it does not exist".to_owned(),
        Some(error) => error.kind().to_string(),
        None => match error.source() {
            Some(_) => cause.to_string(),
            None => error.to_string(),
        },
    }
}
