//! A registry in memory: as much of the API as making releases needs, with conditional writes
//! or without.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard},
};

use deploy_spec::Digest;
use serde_json::json;

use super::server::{Behaviour, Reply, Request};

/// What becomes of conditions on writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    Conditional,
    Plain,
}

/// What can be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletes {
    TagsAndDigests,
    DigestsOnly,
}

pub(crate) struct Memory {
    writes: Writes,
    deletes: Deletes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By repository and tag or digest.
    manifests: HashMap<(String, String), Vec<u8>>,
    /// By digest; every repository has all of them.
    blobs: HashMap<String, Vec<u8>>,
}

impl Memory {
    pub(crate) fn new(writes: Writes) -> Self {
        Self {
            writes,
            deletes: Deletes::TagsAndDigests,
            state: Mutex::default(),
        }
    }

    pub(crate) fn deleting(self, deletes: Deletes) -> Self {
        Self { deletes, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn blob(&self, request: &Request, digest: &str) -> Reply {
        match self.state().blobs.get(digest) {
            Some(bytes) => Reply::new(200)
                .body(bytes.clone())
                .header("Content-Length", bytes.len()),
            None => Reply::new(404),
        }
        .header("X-Method", &request.method)
    }

    fn upload(&self, request: &Request) -> Reply {
        if request.method == "POST" {
            if let Some(digest) = request.query("mount")
                && self.state().blobs.contains_key(&digest)
            {
                return Reply::new(201);
            }
            return Reply::new(202).header("Location", format!("{}session", request.path()));
        }
        let digest = request.query("digest").unwrap();
        self.state().blobs.insert(digest, request.body.clone());
        Reply::new(201)
    }

    fn manifest(&self, request: &Request, name: &str, reference: &str) -> Reply {
        let key = (name.to_owned(), reference.to_owned());
        let mut state = self.state();
        let current = state.manifests.get(&key).cloned();
        let digest = |bytes: &[u8]| Digest::sha256(bytes).to_string();
        let tag = |bytes: &[u8]| format!("\"{}\"", digest(bytes));
        match request.method.as_str() {
            "PUT" => {
                let holds = match (request.header("if-none-match"), request.header("if-match")) {
                    (Some(_), _) => current.is_none(),
                    (_, Some(wanted)) => current.as_deref().map(tag).as_deref() == Some(wanted),
                    _ => true,
                };
                if !holds && self.writes == Writes::Conditional {
                    let reply = Reply::new(412);
                    return match current {
                        Some(current) => reply.header("ETag", tag(&current)),
                        None => reply,
                    };
                }
                let by_digest = (name.to_owned(), digest(&request.body));
                state.manifests.insert(by_digest, request.body.clone());
                state.manifests.insert(key, request.body.clone());
                Reply::new(201).header("Docker-Content-Digest", digest(&request.body))
            }
            "DELETE" if self.deletes == Deletes::DigestsOnly && !reference.contains(':') => {
                Reply::new(405)
            }
            "DELETE" => {
                let Some(current) = current else {
                    return Reply::new(404);
                };
                match reference.contains(':') {
                    true => state.manifests.retain(|_, found| *found != current),
                    false => drop(state.manifests.remove(&key)),
                }
                Reply::new(202)
            }
            _ => match current {
                Some(bytes) => Reply::new(200)
                    .header("Docker-Content-Digest", digest(&bytes))
                    .header("Content-Type", deploy_spec::media_type::IMAGE_MANIFEST)
                    .header("Content-Length", bytes.len())
                    .body(bytes),
                None => Reply::new(404),
            },
        }
    }

    fn catalog(&self) -> Reply {
        let state = self.state();
        let names: BTreeSet<_> = state.manifests.keys().map(|(name, _)| name).collect();
        Reply::new(200).json(json!({"repositories": names}))
    }

    fn tags(&self, name: &str) -> Reply {
        let state = self.state();
        let of_name = state.manifests.keys().filter(|(found, _)| found == name);
        let tags: Vec<_> = of_name
            .map(|(_, tag)| tag)
            .filter(|tag| !tag.contains(':'))
            .collect();
        Reply::new(200).json(json!({"name": name, "tags": tags}))
    }
}

impl Behaviour for Memory {
    fn answer(&self, request: &Request) -> Reply {
        let path = request.path().strip_prefix("/v2/").unwrap_or_default();
        if let Some((name, rest)) = path.rsplit_once("/manifests/") {
            return self.manifest(request, name, rest);
        }
        if let Some((name, _)) = path.rsplit_once("/tags/list") {
            return self.tags(name);
        }
        match path.rsplit_once("/blobs/") {
            Some((_, rest)) if rest.starts_with("uploads/") => self.upload(request),
            Some((_, digest)) => self.blob(request, digest),
            None if path == "_catalog" => self.catalog(),
            None => Reply::new(200),
        }
    }
}
