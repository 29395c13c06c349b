//! Who writes to what right now, within this process: two requests must not write the data of
//! one upload at the same time. Across processes the session's record decides, by conditional
//! writes. Used by `uploads`.
//!
//! A request that makes progress keeps its claim, and others are refused. One whose body is over
//! is waited for: it only writes down what it has. So is upkeep, which has no body and looks at
//! an upload for an instant. One whose body has stalled, most likely because its connection died
//! unnoticed, gives way: it is told to stop, saves what it has, and the client that came back
//! goes on from there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::watch;

use super::{error::BodyError, upload_id::UploadId};

/// A body that nothing arrived of for so long has stalled.
const STALLED: Duration = Duration::from_secs(2);
/// How long a request may take to save what it has.
const GIVE_WAY: Duration = Duration::from_secs(10);

/// The uploads that some request writes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<HashMap<UploadId, Arc<Holder>>>>);

/// The right to write to an upload, until dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    id: UploadId,
    holder: Arc<Holder>,
}

#[derive(Debug)]
struct Holder {
    body: Mutex<BodyState>,
    /// Turns true when the holder should stop.
    stop: watch::Sender<bool>,
    /// Turns true when it has.
    gone: watch::Sender<bool>,
}

/// What a holder does about its body.
#[derive(Clone, Copy, Debug)]
enum BodyState {
    /// It has not asked for more.
    Idle,
    /// It has been waiting for more since.
    Waiting(Instant),
    /// There is no more.
    Over,
}

impl Claims {
    /// Returns the claim, or nothing where another request holds it. Waits for one whose body
    /// is over, and for one that has stalled to give way.
    pub(crate) async fn take(&self, id: &UploadId) -> Option<Claim> {
        let holder = match self.try_take(id, BodyState::Idle) {
            Ok(claim) => return Some(claim),
            Err(holder) => holder,
        };
        let mut gone = holder.gone.subscribe();
        match *lock(&holder.body) {
            BodyState::Over => {}
            BodyState::Waiting(since) if since.elapsed() >= STALLED => {
                holder.stop.send_replace(true);
            }
            BodyState::Idle | BodyState::Waiting(_) => return None,
        }
        let gone = gone.wait_for(|gone| *gone);
        match tokio::time::timeout(GIVE_WAY, gone).await {
            Ok(_) => self.try_take(id, BodyState::Idle).ok(),
            Err(_) => None,
        }
    }

    /// Returns the claim for upkeep, which requests wait for instead of being refused; nothing
    /// where a request holds it, stalled or not.
    pub(crate) fn take_unheld(&self, id: &UploadId) -> Option<Claim> {
        self.try_take(id, BodyState::Over).ok()
    }

    fn try_take(&self, id: &UploadId, body: BodyState) -> Result<Claim, Arc<Holder>> {
        let mut held = lock(&self.0);
        if let Some(holder) = held.get(id) {
            return Err(holder.clone());
        }
        let holder = Arc::new(Holder {
            body: Mutex::new(body),
            stop: watch::Sender::new(false),
            gone: watch::Sender::new(false),
        });
        held.insert(id.clone(), holder.clone());
        Ok(Claim {
            claims: self.clone(),
            id: id.clone(),
            holder,
        })
    }
}

impl Claim {
    /// Returns the body, which breaks off where the claim must be given up.
    pub(crate) fn guard<'a>(
        &self,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Unpin + Send + 'a,
    ) -> impl Stream<Item = Result<Bytes, BodyError>> + Unpin + Send + 'a {
        let holder = self.holder.clone();
        let stop = holder.stop.subscribe();
        let guarded = futures::stream::unfold(Some((body, holder, stop)), |state| async move {
            let (mut body, holder, mut stop) = state?;
            *lock(&holder.body) = BodyState::Waiting(Instant::now());
            let piece = tokio::select! {
                piece = body.next() => piece,
                _ = stop.wait_for(|stop| *stop) => Some(Err(BodyError::TakenOver)),
            };
            *lock(&holder.body) = match piece {
                Some(Ok(_)) => BodyState::Idle,
                None | Some(Err(_)) => BodyState::Over,
            };
            match piece? {
                Ok(piece) => Some((Ok(piece), Some((body, holder, stop)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        guarded.boxed()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.claims.0).remove(&self.id);
        self.holder.gone.send_replace(true);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn request_waits_for_upkeep_and_is_refused_beside_another_request() {
        let claims = Claims::default();
        let id = UploadId::random();
        let upkeep = claims.take_unheld(&id).unwrap();
        let mut waiting = std::pin::pin!(claims.take(&id));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(upkeep);
        let request = waiting.await.unwrap();
        assert!(claims.take(&id).await.is_none());
        assert!(claims.take_unheld(&id).is_none());
        drop(request);
        assert!(claims.take(&id).await.is_some());
    }
}
