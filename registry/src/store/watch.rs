//! Waiting for tags to move, within this process. `manifests` and `tags` announce every
//! change; the long poll waits here.
//!
//! An announcement says only: look again. What a tag means stands in the store alone, so that
//! changes made through another replica need nothing but a second source of announcements.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use deploy_spec::{RepositoryName, Tag};
use tokio::sync::watch;

type Place = (RepositoryName, Tag);

/// The tags that somebody waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches(Arc<Mutex<HashMap<Place, watch::Sender<()>>>>);

/// Somebody who waits for a tag.
#[derive(Debug)]
pub struct TagWatch {
    watches: Watches,
    place: Place,
    receiver: Option<watch::Receiver<()>>,
}

impl Watches {
    /// Returns a watch that sees every change from now on.
    pub(crate) fn watch(&self, repository: &RepositoryName, tag: &Tag) -> TagWatch {
        let place = (repository.clone(), tag.clone());
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = watched.entry(place.clone()).or_default().subscribe();
        TagWatch {
            watches: self.clone(),
            place,
            receiver: Some(receiver),
        }
    }

    /// Wakes everybody who waits for the tag.
    pub(crate) fn announce(&self, repository: &RepositoryName, tag: &Tag) {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.is_empty() {
            return;
        }
        if let Some(sender) = watched.get(&(repository.clone(), tag.clone())) {
            sender.send_replace(());
        }
    }
}

impl TagWatch {
    /// Returns once something was announced since the watch began or since the last return.
    pub async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            // The sender lives as long as there are receivers.
            let _ = receiver.changed().await;
        }
    }
}

impl Drop for TagWatch {
    fn drop(&mut self) {
        self.receiver = None;
        let mut watched = self
            .watches
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if watched
            .get(&self.place)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            watched.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_watch_of_the_tag_wakes_and_the_last_one_leaves_nothing() {
        let watches = Watches::default();
        let repository: RepositoryName = "a/b".parse().unwrap();
        let tag: Tag = "latest".parse().unwrap();
        let mut one = watches.watch(&repository, &tag);
        let mut other = watches.watch(&repository, &tag);
        watches.announce(&repository, &"v1".parse().unwrap());
        assert!(futures::FutureExt::now_or_never(one.changed()).is_none());
        watches.announce(&repository, &tag);
        one.changed().await;
        other.changed().await;
        assert!(futures::FutureExt::now_or_never(one.changed()).is_none());
        drop(one);
        assert_eq!(watches.0.lock().unwrap().len(), 1);
        drop(other);
        assert_eq!(watches.0.lock().unwrap().len(), 0);
    }
}
