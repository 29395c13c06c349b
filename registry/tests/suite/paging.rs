//! Listings of more keys than an S3 server lists at a time: 1,000.

use deploy_registry::store::{Clock, Collection, Mode, Others, Pace, Progress};
use deploy_spec::{Digest, listing::parse_next_link};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use object_store::{ObjectStoreExt as _, PutPayload, path::Path};
use serde_json::Value;

use crate::{
    backends::{Raw, place_on_minio},
    harness::{TestRegistry, header, image},
};

const COUNT: usize = 1_010;
const AT_ONCE: usize = 16;

async fn put_all(raw: &dyn Raw, objects: Vec<(String, PutPayload)>) {
    futures::stream::iter(objects)
        .for_each_concurrent(AT_ONCE, |(key, payload)| async move {
            raw.put(&Path::from(key), payload).await.unwrap();
        })
        .await;
}

async fn bytes(raw: &dyn Raw, key: &str) -> PutPayload {
    let found = raw.get(&Path::from(key)).await.unwrap();
    found.bytes().await.unwrap().into()
}

/// Follows `Link` from page to page, and returns how long each was and all that was listed.
async fn pages(registry: &TestRegistry, path: &str, key: &str) -> (Vec<usize>, Vec<String>) {
    let (mut lengths, mut names) = (Vec::new(), Vec::new());
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let response = registry.send("GET", &path).await;
        assert_eq!(response.status(), 200, "{path}");
        next = parse_next_link(header(&response, "link")).map(str::to_owned);
        let body: Value = response.json().await.unwrap();
        let page = body[key].as_array().unwrap();
        lengths.push(page.len());
        names.extend(page.iter().map(|name| name.as_str().unwrap().to_owned()));
    }
    (lengths, names)
}

#[tokio::test]
async fn more_than_a_server_lists_at_a_time_is_listed_whole() {
    let Some(place) = place_on_minio("more_than_a_server_lists_at_a_time_is_listed_whole") else {
        return;
    };
    let raw = place.raw();
    let registry = TestRegistry::start(place.store().await).await;
    let config = registry.push("a", "{}").await;
    registry
        .push_manifest("a", "t0000", &image(&config, &[]))
        .await;
    // What was pushed is the pattern for everything else; none of it is needed.
    let hex = config.hex();
    let record = bytes(&*raw, &format!("blobs/sha256/{}/{hex}", &hex[..2])).await;
    let tag = bytes(&*raw, "repos/a/_tags/t0000").await;
    let mut objects = Vec::new();
    for number in 1..=COUNT {
        let digest = Digest::sha256(&number.to_be_bytes());
        let hex = digest.hex();
        objects.push((format!("repos/a/_tags/t{number:04}"), tag.clone()));
        objects.push((format!("catalog/r{number:04}"), PutPayload::new()));
        objects.push((format!("blobs/sha256/{}/{hex}", &hex[..2]), record.clone()));
    }
    put_all(&*raw, objects).await;

    let tags: Vec<String> = (0..=COUNT).map(|number| format!("t{number:04}")).collect();
    for (query, lengths) in [
        ("", vec![COUNT + 1]),
        ("?n=300", vec![300, 300, 300, 111]),
        ("?n=999", vec![999, 12]),
        ("?n=1000", vec![1000, 11]),
        ("?n=1001", vec![1001, 10]),
        ("?n=1011", vec![1011]),
    ] {
        let (found, listed) = pages(&registry, &format!("/v2/a/tags/list{query}"), "tags").await;
        assert_eq!(found, lengths, "{query}");
        assert_eq!(listed, tags, "{query}");
    }
    let (_, listed) = pages(&registry, "/v2/a/tags/list?n=60&last=t0980", "tags").await;
    assert_eq!(listed, tags[981..]);

    let mut repositories = vec!["a".to_owned()];
    repositories.extend((1..=COUNT).map(|number| format!("r{number:04}")));
    for (query, lengths) in [("", vec![COUNT + 1]), ("?n=700", vec![700, 311])] {
        let path = format!("/v2/_catalog{query}");
        let (found, listed) = pages(&registry, &path, "repositories").await;
        assert_eq!(found, lengths, "{query}");
        assert_eq!(listed, repositories, "{query}");
    }

    let collection = Collection {
        grace: SignedDuration::from_hours(24),
        upload_expiry: SignedDuration::from_hours(24),
        mode: Mode::DryRun,
        others: Others::Served,
        without_tags: Default::default(),
        pace: Pace::unbounded(),
    };
    let later = Clock::new(|| Timestamp::now() + SignedDuration::from_hours(25));
    let progress = Progress::default();
    let store = place.store().await.with_clock(later);
    store.collect(&collection, &progress).await.unwrap();
    let (collected, count) = (progress.so_far(), COUNT as u64);
    assert_eq!(collected.tags.found, count + 1);
    let blobs = collected.blobs;
    assert_eq!((blobs.found, blobs.condemned), (count + 1, count));
    assert_eq!(collected.catalog.condemned, count);
}
