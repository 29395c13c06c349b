//! Layers that are unpacked while they come.

use std::io;

use super::{memory::Halfway, *};

/// A host with a release, and a second one to come whose new layer stops halfway.
async fn halfway() -> (Host, Digest, Digest) {
    let mut host = Host::new();
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    Arc::get_mut(&mut host.source).unwrap().halfway = Some(Halfway::default());
    let second = host.release(2);
    (host, first, second)
}

fn is_unpacking(host: &Host) -> bool {
    let entries = fs::read_dir(host.path("host/unpacked")).unwrap();
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let names: io::Result<Vec<_>> = names.collect();
    let staged = |name: &std::ffi::OsString| name.to_string_lossy().starts_with(".staging-");
    names.unwrap().iter().any(staged)
}

/// Waits for the half of the layer, and for the unpacking to have begun.
async fn until_unpacking(host: &Host) -> &Halfway {
    let halfway = host.source.halfway.as_ref().unwrap();
    halfway.reached.notified().await;
    until("the unpacking", || is_unpacking(host)).await;
    halfway
}

#[tokio::test]
async fn unpacking_begins_before_the_layers_are_there() {
    let (host, _, second) = halfway().await;
    let rest = async { until_unpacking(&host).await.go.notify_one() };
    let (exit, ()) = tokio::join!(host.look(), rest);
    assert_eq!(exit, Exit::Success);
    host.assert_on(&second);
}

#[tokio::test]
async fn a_layer_that_breaks_off_leaves_nothing_but_its_part() {
    let (host, first, second) = halfway().await;
    let breaking = async {
        let halfway = until_unpacking(&host).await;
        halfway.breaks.store(true, Ordering::Relaxed);
        halfway.go.notify_one();
    };
    let (exit, ()) = tokio::join!(host.look(), breaking);
    assert_eq!(exit, Exit::Failure);
    assert_eq!((host.directory_current(), host.runs().len()), (first, 1));
    assert!(!is_unpacking(&host) && !host.has_tree(&second));
    let halfway = host.source.halfway.as_ref().unwrap();
    halfway.breaks.store(false, Ordering::Relaxed);
    halfway.go.notify_one();
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
}

#[tokio::test]
async fn a_wish_to_end_ends_both() {
    let (host, first, _) = halfway().await;
    let agent = host.follow(OnFailure::Retry);
    until_unpacking(&host).await;
    assert_eq!(agent.end().await, Exit::Success);
    assert!(!is_unpacking(&host));
    assert_eq!(host.directory_current(), first);
}

#[tokio::test]
async fn bytes_that_are_none_of_the_layer_are_never_in_a_tree() {
    let (host, first, second) = halfway().await;
    let layer = {
        let mut blobs = host.source.blobs.lock().unwrap();
        let known = host.entry().deployed.unwrap().record.layers;
        let layer = blobs.iter_mut().find(|(digest, bytes)| {
            bytes.first() != Some(&b'{') && known.iter().all(|layer| layer.digest != **digest)
        });
        let (digest, bytes) = layer.unwrap();
        let good = bytes.clone();
        *bytes.last_mut().unwrap() ^= 1;
        (digest.clone(), good)
    };
    let rest = async {
        let halfway = until_unpacking(&host).await;
        halfway.go.notify_one();
        // It comes once more, since it proved to be wrong.
        halfway.reached.notified().await;
        halfway.go.notify_one();
    };
    let (exit, ()) = tokio::join!(host.look(), rest);
    assert_eq!(exit, Exit::Failure);
    assert_eq!((host.directory_current(), host.runs().len()), (first, 1));
    assert!(!is_unpacking(&host) && !host.has_tree(&second));
    host.source.blobs.lock().unwrap().insert(layer.0, layer.1);
    let halfway = host.source.halfway.as_ref().unwrap();
    halfway.go.notify_one();
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
}
