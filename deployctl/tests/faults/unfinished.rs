//! Uploads that a program left unfinished, and another one goes on with: as far as the registry still
//! knows them, and as they are of the same bytes.

use std::sync::{Arc, Mutex};

use super::support::{
    registry_with,
    server::{Reply, Request, Server},
    sessions::{CUT, Sessions},
};
use deploy_spec::Digest;
use deployctl::client::{Check, ClientError, Content, Options, Progress, Uploaded};
use tempfile::TempDir;

const SIZE: usize = 20 * 1024 * 1024;

/// A registry with an upload that was left unfinished, and where it is kept.
struct Left {
    sessions: Sessions,
    server: Server,
    place: TempDir,
    bytes: Vec<u8>,
    digest: Digest,
}

impl Left {
    /// One to which the first 5 MiB of other bytes than ours, or of ours, have come.
    async fn of(sent: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        let sessions = Sessions::ill();
        let bytes: Vec<u8> = (0..SIZE).map(|at| (at * at / 7 % 251) as u8).collect();
        let left = Self {
            server: Server::start(sessions.clone()),
            sessions,
            place: tempfile::tempdir().unwrap(),
            digest: Digest::sha256(&bytes),
            bytes,
        };
        let sent = sent(left.bytes.clone());
        let error = left.upload(Content::Bytes(sent.into())).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert_eq!(left.kept(), 1);
        left.sessions.heal();
        left
    }

    async fn ours() -> Self {
        Self::of(|bytes| bytes).await
    }

    /// Uploads as another program would.
    async fn upload(&self, content: Content) -> Result<Uploaded, ClientError> {
        let options = Options {
            unfinished: Some(self.place.path().to_owned()),
            ..Options::default()
        };
        let registry = registry_with(&self.server.address, options);
        let repository = registry.repository("components/code".parse().unwrap());
        let progress = Progress::none();
        repository.upload(&self.digest, &content, &progress).await
    }

    fn content(&self) -> Content {
        Content::Bytes(self.bytes.clone().into())
    }

    fn kept(&self) -> usize {
        std::fs::read_dir(self.place.path()).unwrap().count()
    }

    fn begun(&self) -> usize {
        self.sessions.state().begun
    }

    /// Uploads what somebody refuses who sees all of it.
    async fn is_refused(&self) {
        let content = Content::Checked {
            content: Box::new(self.content()),
            check: Check::new(|mut passing| {
                std::io::copy(&mut passing, &mut std::io::sink())?;
                Err("no".into())
            }),
        };
        let error = self.upload(content).await.unwrap_err();
        assert!(matches!(error, ClientError::Content { .. }), "{error}");
    }

    /// How the upload ends: all of it there, and nothing kept.
    async fn ends_with(&self, before: usize) {
        let uploaded = self.upload(self.content()).await.unwrap();
        let before = before as u64;
        assert_eq!(uploaded, Uploaded::Sent { before });
        let state = self.sessions.state();
        assert!(state.stored && state.received.as_ref() == Some(&self.bytes));
        assert_eq!(self.kept(), 0);
    }
}

#[tokio::test]
async fn the_next_program_goes_on_where_one_stopped() {
    let left = Left::ours().await;
    left.ends_with(CUT).await;
    assert_eq!(left.begun(), 1);
}

#[tokio::test]
async fn whoever_has_a_say_sees_what_is_not_sent_again_too() {
    let left = Left::ours().await;
    let (seen, expected) = (Arc::<Mutex<Vec<u8>>>::default(), left.bytes.clone());
    let all = seen.clone();
    let check = Check::new(move |mut passing| {
        std::io::Read::read_to_end(&mut passing, &mut all.lock().unwrap())?;
        Ok(())
    });
    let content = Content::Checked {
        content: Box::new(left.content()),
        check,
    };
    let before = CUT as u64;
    assert_eq!(
        left.upload(content).await.unwrap(),
        Uploaded::Sent { before }
    );
    assert!(*seen.lock().unwrap() == expected);
}

#[tokio::test]
async fn what_is_refused_is_given_back_and_not_gone_on_with() {
    let left = Left::ours().await;
    left.is_refused().await;
    assert_eq!(left.kept(), 0);
    assert_eq!(left.server.seen("DELETE").len(), 1);
    left.ends_with(0).await;
}

#[tokio::test]
async fn what_is_refused_is_given_back_once_the_registry_lets_go_of_it() {
    let left = Left::ours().await;
    left.sessions.state().busy = 2;
    left.is_refused().await;
    assert_eq!(left.server.seen("DELETE").len(), 3);
    assert!(left.sessions.state().received.is_none());
}

#[tokio::test]
async fn a_registry_that_has_all_of_it_is_not_told_so_before_it_is_looked_at() {
    let left = Left::ours().await;
    left.sessions.state().received = Some(left.bytes.clone());
    left.is_refused().await;
    assert!(left.server.seen("PUT").is_empty());
}

#[tokio::test]
async fn what_the_registry_does_not_know_any_more_begins_anew() {
    let left = Left::ours().await;
    left.sessions.state().received = None;
    left.ends_with(0).await;
    assert_eq!(left.begun(), 2);
}

#[tokio::test]
async fn other_bytes_than_ours_are_given_back_and_all_is_sent() {
    let changed = |mut bytes: Vec<u8>| {
        bytes[7] ^= 1;
        bytes
    };
    let left = Left::of(changed).await;
    left.ends_with(0).await;
    assert_eq!(left.server.seen("DELETE").len(), 1);
}

#[tokio::test]
async fn a_registry_that_has_more_than_there_is_is_not_believed() {
    let left = Left::ours().await;
    left.sessions.state().boast = SIZE;
    left.ends_with(0).await;
    assert_eq!(left.begun(), 2);
}

#[tokio::test]
async fn nothing_is_sent_to_where_the_registry_is_not() {
    let left = Left::ours().await;
    let elsewhere = Server::start(|_: &Request| Reply::new(204).header("Range", "0-99"));
    let kept = std::fs::read_dir(left.place.path()).unwrap().next();
    let kept = kept.unwrap().unwrap().path();
    let text = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(
        &kept,
        text.replace(&left.server.address, &elsewhere.address),
    )
    .unwrap();
    left.ends_with(0).await;
    assert!(elsewhere.seen("GET").is_empty() && elsewhere.seen("PATCH").is_empty());
}

#[tokio::test]
async fn two_at_once_do_not_meet_in_one_session() {
    let left = Left::ours().await;
    let two = tokio::join!(left.upload(left.content()), left.upload(left.content()));
    assert!(left.begun() >= 2);
    // The registry of this test knows one session: one of the two may have lost it.
    assert!(two.0.is_ok() || two.1.is_ok());
}
