//! A say in what is uploaded: content is looked at while it passes, and where it is not what it
//! should be, the registry never gets its last byte. Read by `content`, made by verbs that import.

use std::{error::Error, fmt, io, sync::Arc};

use bytes::{Buf as _, Bytes};
use futures::{Stream, TryStreamExt as _, stream::BoxStream};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
};

use super::ClientError;

/// How many pieces wait to be looked at.
const AHEAD: usize = 4;

type Refusal = Box<dyn Error + Send + Sync>;
type Look = dyn FnOnce(Passing) -> Result<(), Refusal> + Send;

/// Somebody who sees every byte of an upload once and in order, however often parts of it are
/// sent again, and who decides before the last piece goes. All clones are one.
#[derive(Clone)]
pub struct Check(Arc<Mutex<State>>);

struct State {
    stage: Stage,
    /// How many bytes have been seen.
    seen: u64,
}

enum Stage {
    Waiting(Box<Look>),
    Looking {
        way: mpsc::Sender<Bytes>,
        task: JoinHandle<Result<(), Refusal>>,
    },
    /// It has been shown all, or has seen enough.
    Deciding {
        task: JoinHandle<Result<(), Refusal>>,
        took_all: bool,
    },
    Content,
    /// The reason was told to whoever sent first.
    Refused,
}

impl Check {
    /// Returns the check that `look` makes. It is called once, on a blocking thread, and reads
    /// to the end; what it returns before that end is taken for a refusal.
    pub fn new(look: impl FnOnce(Passing) -> Result<(), Refusal> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State {
            stage: Stage::Waiting(Box::new(look)),
            seen: 0,
        })))
    }

    /// Returns the pieces that start at `position` of content of `size` bytes, each once it has
    /// been seen; the last of the content once it is agreed to.
    pub(super) fn passing(
        &self,
        pieces: BoxStream<'static, Result<Bytes, ClientError>>,
        position: u64,
        size: u64,
    ) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + use<> {
        let check = self.clone();
        let mut position = position;
        pieces.and_then(move |piece| {
            let (start, check) = (position, check.clone());
            position += piece.len() as u64;
            async move {
                check.see(start, &piece, size).await?;
                Ok(piece)
            }
        })
    }

    /// Returns how many bytes have been seen.
    pub(super) async fn seen(&self) -> u64 {
        self.0.lock().await.seen
    }

    async fn see(&self, start: u64, piece: &Bytes, size: u64) -> Result<(), ClientError> {
        let mut state = self.0.lock().await;
        if let Some(known) = state.seen.checked_sub(start) {
            let mut fresh = piece.clone();
            fresh.advance(
                fresh
                    .len()
                    .min(usize::try_from(known).unwrap_or(usize::MAX)),
            );
            if !fresh.is_empty() {
                state.show(fresh).await?;
            }
        } else {
            // A registry that claims to have more than it was sent.
            return Err(ClientError::Protocol {
                operation: "resume an upload".to_owned(),
                reason: format!("it has {start} bytes, and {} were sent", state.seen),
            });
        }
        match state.seen >= size {
            true => state.decide().await,
            false => Ok(()),
        }
    }
}

/// An upload that breaks off drops these futures wherever they wait: what they were about to do is
/// done by the next one then.
impl State {
    async fn show(&mut self, piece: Bytes) -> Result<(), ClientError> {
        if let Stage::Waiting(_) = self.stage {
            let (way, pieces) = mpsc::channel(AHEAD);
            let Stage::Waiting(look) = std::mem::replace(&mut self.stage, Stage::Refused) else {
                unreachable!("it was looked at");
            };
            let passing = Passing {
                pieces,
                piece: Bytes::new(),
                is_over: false,
            };
            let task = tokio::task::spawn_blocking(move || look(passing));
            self.stage = Stage::Looking { way, task };
        }
        if let Stage::Looking { way, .. } = &self.stage
            && let Ok(place) = way.reserve().await
        {
            // Seen is what nobody has to show again.
            self.seen += piece.len() as u64;
            place.send(piece);
            return Ok(());
        }
        // It has seen enough.
        self.decide().await
    }

    /// Waits for the decision.
    async fn decide(&mut self) -> Result<(), ClientError> {
        if let Stage::Looking { way, .. } = &self.stage {
            // An empty piece is the end; one that goes without it is a broken upload.
            let place = way.reserve().await.ok();
            let took_all = place.map(|place| place.send(Bytes::new())).is_some();
            if let Stage::Looking { task, .. } = std::mem::replace(&mut self.stage, Stage::Refused)
            {
                self.stage = Stage::Deciding { task, took_all };
            }
        }
        let (decision, took_all) = match &mut self.stage {
            Stage::Content => return Ok(()),
            Stage::Deciding { task, took_all } => (task.await, *took_all),
            _ => return Err(refused(None)),
        };
        self.stage = Stage::Refused;
        match decision {
            Ok(Ok(())) if took_all => {
                self.stage = Stage::Content;
                Ok(())
            }
            Ok(Ok(())) => Err(refused(None)),
            Ok(Err(refusal)) => Err(refused(Some(refusal))),
            Err(error) => Err(refused(Some(error.into()))),
        }
    }
}

fn refused(reason: Option<Refusal>) -> ClientError {
    ClientError::Content {
        source: reason.unwrap_or_else(|| "it was refused before".into()),
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Check")
    }
}

/// The bytes of an upload as they pass.
#[derive(Debug)]
pub struct Passing {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    is_over: bool,
}

impl io::Read for Passing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.is_over {
            let interrupted =
                || io::Error::new(io::ErrorKind::ConnectionAborted, "the upload broke off");
            self.piece = self.pieces.blocking_recv().ok_or_else(interrupted)?;
            self.is_over = self.piece.is_empty();
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures::{StreamExt as _, stream};

    use super::*;

    /// A check that agrees to `expected` alone.
    fn check(expected: &'static [u8]) -> Check {
        Check::new(move |mut passing| {
            let mut found = Vec::new();
            passing.read_to_end(&mut found)?;
            match found == expected {
                true => Ok(()),
                false => Err("other bytes".into()),
            }
        })
    }

    /// Sends pieces that start at a position, and returns what passes.
    async fn send(
        check: &Check,
        start: u64,
        pieces: &[&'static str],
        size: u64,
    ) -> Result<String, String> {
        let pieces = pieces
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
        let pieces = stream::iter(pieces.collect::<Vec<_>>()).boxed();
        let passed: Result<Vec<Bytes>, _> = check.passing(pieces, start, size).try_collect().await;
        let passed = passed.map_err(|error| error.source().unwrap_or(&error).to_string())?;
        Ok(String::from_utf8(passed.concat()).unwrap())
    }

    #[tokio::test]
    async fn what_is_sent_again_is_seen_once() {
        let check = check(b"abcdef");
        assert_eq!(send(&check, 0, &["abc"], 6).await.unwrap(), "abc");
        assert_eq!(send(&check, 1, &["bc", "d"], 6).await.unwrap(), "bcd");
        assert_eq!(send(&check, 0, &["abcdef"], 6).await.unwrap(), "abcdef");
        assert_eq!(send(&check, 4, &["ef"], 6).await.unwrap(), "ef");
    }

    #[tokio::test]
    async fn nothing_is_lost_where_an_upload_breaks_off_as_it_waits() {
        // At the first piece that finds no room, and at the decision.
        for pieces in [&["a", "b", "c", "d", "e", "f"][..], &["abcdef"]] {
            let (go_on, wait) = std::sync::mpsc::channel::<()>();
            let check = Check::new(move |mut passing| {
                wait.recv()?;
                let mut found = String::new();
                passing.read_to_string(&mut found)?;
                match found == "abcdef" {
                    true => Ok(()),
                    false => Err(found.into()),
                }
            });
            for _ in 0..2 {
                let mut broken = Box::pin(send(&check, 0, pieces, 6));
                assert!(futures::poll!(&mut broken).is_pending());
            }
            go_on.send(()).unwrap();
            assert_eq!(send(&check, 0, pieces, 6).await.unwrap(), "abcdef");
        }
    }

    #[tokio::test]
    async fn the_last_piece_of_what_is_refused_does_not_pass() {
        let check = check(b"abcdef");
        assert_eq!(send(&check, 0, &["abx"], 6).await.unwrap(), "abx");
        assert_eq!(
            send(&check, 3, &["def"], 6).await.unwrap_err(),
            "other bytes"
        );
        assert_eq!(
            send(&check, 3, &["def"], 6).await.unwrap_err(),
            "it was refused before"
        );
    }

    #[tokio::test]
    async fn who_looks_no_further_refuses() {
        let early = Check::new(|_| Ok(()));
        let mut result = Ok(String::new());
        for start in 0..10 {
            result = send(&early, start, &["a"], 10).await;
            if result.is_err() {
                break;
            }
        }
        assert_eq!(result.unwrap_err(), "it was refused before");
    }

    #[tokio::test]
    async fn a_registry_that_claims_more_than_it_was_sent_is_not_believed() {
        let check = check(b"abcdef");
        let error = send(&check, 3, &["def"], 6).await.unwrap_err();
        assert!(error.contains("it has 3 bytes, and 0 were sent"), "{error}");
    }
}
