//! A registry that takes a blob in chunks, and cuts the connection in the middle of one.

use std::sync::{Arc, Mutex, MutexGuard};

use super::server::{Behaviour, Reply, Request};
use deploy_spec::Digest;

/// After how many bytes of a chunk the connection breaks.
pub(crate) const CUT: usize = 5 * 1024 * 1024;

/// Knows one session after the other.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// How many sessions have begun.
    pub(crate) begun: usize,
    /// What has come in the last one, while it is known.
    pub(crate) received: Option<Vec<u8>>,
    /// How many bytes more it says that it has.
    pub(crate) boast: usize,
    /// How often it says, when a session is given back, that somebody is at it still.
    pub(crate) busy: usize,
    /// Whether the blob is there.
    pub(crate) stored: bool,
    /// Whether it cuts the next chunk.
    cuts: bool,
    /// Whether it is so ill that nothing helps: cuts each chunk, and does not say what has come.
    ill: bool,
}

impl Sessions {
    /// Returns one that cuts the first chunk, and no other.
    pub(crate) fn cutting_once() -> Self {
        let sessions = Self::default();
        sessions.state().cuts = true;
        sessions
    }

    /// Returns one with which no upload ends before it is [healed](Self::heal).
    pub(crate) fn ill() -> Self {
        let sessions = Self::default();
        sessions.state().ill = true;
        sessions
    }

    pub(crate) fn heal(&self) {
        self.state().ill = false;
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Behaviour for Sessions {
    fn takes(&self, head: &Request) -> Option<usize> {
        let mut state = self.state();
        let cuts = head.method == "PATCH" && (state.ill || std::mem::take(&mut state.cuts));
        cuts.then_some(CUT)
    }

    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.state();
        let session = format!("/v2/components/code/blobs/uploads/{}", state.begun);
        let is_known = request.path() == session && state.received.is_some();
        match request.method.as_str() {
            _ if request.target == "/v2/" => return Reply::new(200),
            "HEAD" => return Reply::new(if state.stored { 200 } else { 404 }),
            "POST" => {
                state.begun += 1;
                state.received = Some(Vec::new());
                let location = format!("{}{}?state=a", request.path(), state.begun);
                return Reply::new(202).header("Location", location);
            }
            _ if !is_known => return Reply::new(404),
            "DELETE" if state.busy > 0 => {
                state.busy -= 1;
                return Reply::new(409);
            }
            "DELETE" => {
                state.received = None;
                return Reply::new(204);
            }
            "GET" if state.ill => return Reply::new(503),
            _ => {}
        }
        let received = state.received.as_mut().unwrap();
        match request.method.as_str() {
            "PATCH" => {
                let range = request.header("content-range").unwrap();
                let first: usize = range.split('-').next().unwrap().parse().unwrap();
                if first != received.len() {
                    return Reply::new(416);
                }
                received.extend(&request.body);
            }
            "PUT" => {
                let digest = Digest::sha256(received).to_string();
                state.stored = request.query("digest") == Some(digest);
                return Reply::new(if state.stored { 201 } else { 400 });
            }
            _ => {}
        }
        let last = (received.len() + state.boast).saturating_sub(1);
        let status = if request.method == "PATCH" { 202 } else { 204 };
        Reply::new(status)
            .header("Location", format!("{session}?state=a"))
            .header("Range", format!("0-{last}"))
    }
}
