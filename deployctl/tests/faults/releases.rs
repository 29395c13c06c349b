//! Releases made by many at once, and after a maker died, with conditional writes and without.

use super::support::{
    memory::{Deletes, Memory, Writes},
    server::Server,
};
use bytes::Bytes;
use deploy_spec::{Channel, LayerReference, Outline, Prefix, Reference, annotation};
use deployctl::{
    archive::{self, PackOptions},
    client::{Condition, Progress, Repository},
    layout::Layout,
    ops::{LayerChange, OpsError, Project, Source},
    transfer::{self, Place},
};

fn project(server: &Server) -> Project {
    Project {
        registry: super::support::registry(&server.address),
        prefix: Prefix::none(),
        clock: jiff::Timestamp::now,
        signer: None,
        author: None,
        scratch: std::env::temp_dir(),
    }
}

fn layer(text: &str) -> LayerReference {
    text.parse().unwrap()
}

/// Adds a component version whose content is its name.
async fn add(project: &Project, text: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, text).unwrap();
    let path = directory.path().join("archive");
    let output = std::fs::File::create(&path).unwrap();
    archive::pack(&[file], output, &PackOptions::default()).unwrap();
    let source = Source::File(path);
    let added = project
        .add_version(&layer(text), &source, None, &Progress::none())
        .await;
    assert!(added.unwrap().created);
}

fn change(text: &str) -> LayerChange {
    LayerChange {
        configuration: "project".parse().unwrap(),
        channel: Channel::latest(),
        layer: layer(text),
    }
}

async fn compose(project: &Project, layers: &[LayerReference]) {
    let (name, channel) = ("project".parse().unwrap(), Channel::latest());
    let outcome = project
        .add_configuration(&name, &channel, layers, None)
        .await;
    assert!(outcome.unwrap().changed);
}

async fn parents(repository: &Repository, last: u64) -> Vec<Option<String>> {
    let mut parents = Vec::new();
    for number in 1..=last {
        let tag: Reference = format!("v{number}").parse().unwrap();
        let manifest = repository.manifest(&tag).await.unwrap().unwrap();
        let outline = Outline::parse(None, &manifest.bytes).unwrap();
        parents.push(outline.annotations.get(annotation::PARENT).cloned());
    }
    parents
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_made_at_once_none_is_lost() {
    for (writes, count) in [(Writes::Conditional, 20), (Writes::Plain, 5)] {
        let server = Server::start(Memory::new(writes));
        let project = project(&server);
        let mut layers = Vec::new();
        for number in 0..count {
            add(&project, &format!("part{number}:v1")).await;
            add(&project, &format!("part{number}:v2")).await;
            layers.push(layer(&format!("part{number}:v1")));
        }
        compose(&project, &layers).await;
        let changes = (0..count).map(|number| {
            let project = project.clone();
            tokio::spawn(async move {
                let change = change(&format!("part{number}:v2"));
                project.change_configuration(&change, None).await.unwrap()
            })
        });
        let outcomes = futures::future::join_all(changes.collect::<Vec<_>>()).await;
        assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().changed));

        let name = "project".parse().unwrap();
        let shown = project
            .show_configuration(&name, &Channel::latest())
            .await
            .unwrap();
        let versions = shown
            .release
            .layers
            .iter()
            .map(|layer| layer.version.as_str());
        assert!(
            versions.into_iter().all(|version| version == "v2"),
            "{writes:?}"
        );
        assert_eq!(shown.release.number.unwrap().get(), count + 1, "{writes:?}");
        let repository = project.configuration(&name);
        assert_eq!(repository.tags().await.unwrap().len() as u64, count + 2);
        let mut expected = vec![None];
        for number in 1..=count {
            let tag: Reference = format!("v{number}").parse().unwrap();
            let head = repository.manifest_head(&tag).await.unwrap().unwrap();
            expected.push(Some(head.digest.to_string()));
        }
        assert_eq!(
            parents(&repository, count + 1).await,
            expected,
            "{writes:?}"
        );
    }
}

#[tokio::test]
async fn a_release_whose_maker_died_is_helped_along() {
    for writes in [Writes::Conditional, Writes::Plain] {
        let server = Server::start(Memory::new(writes));
        let project = project(&server);
        for text in ["a:v1", "a:v2", "b:v1", "b:v2"] {
            add(&project, text).await;
        }
        compose(&project, &[layer("a:v1"), layer("b:v1")]).await;
        let repository = project.configuration(&"project".parse().unwrap());
        let latest: Reference = "latest".parse().unwrap();
        let first = repository.manifest(&latest).await.unwrap().unwrap();
        project
            .change_configuration(&change("a:v2"), None)
            .await
            .unwrap();
        // As if its maker had died between the two writes.
        let bytes = Bytes::clone(&first.bytes);
        let (media_type, always) = (&first.media_type, Condition::Always);
        repository
            .put_manifest(&latest, media_type, bytes, &always)
            .await
            .unwrap();

        let outcome = project
            .change_configuration(&change("b:v2"), None)
            .await
            .unwrap();
        let release = outcome.now.release;
        assert_eq!(release.number.unwrap().get(), 3, "{writes:?}");
        let versions: Vec<_> = release
            .layers
            .iter()
            .map(|layer| layer.version.as_str())
            .collect();
        assert_eq!(versions, ["v2", "v2"], "{writes:?}");
    }
}

#[tokio::test]
async fn other_bytes_under_a_version_are_refused_and_nothing_is_sent() {
    let server = Server::start(Memory::new(Writes::Conditional));
    let project = project(&server);
    add(&project, "a:v1").await;
    let sent = server.seen("PUT").len();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.tar");
    let file = directory.path().join("file");
    std::fs::write(&file, "other").unwrap();
    archive::pack(
        &[file],
        std::fs::File::create(&path).unwrap(),
        &PackOptions::default(),
    )
    .unwrap();
    let source = Source::File(path);
    let result = project
        .add_version(&layer("a:v1"), &source, None, &Progress::none())
        .await;
    assert!(
        matches!(result, Err(OpsError::VersionExists { .. })),
        "{result:?}"
    );
    assert_eq!(server.seen("PUT").len(), sent);
}

#[tokio::test]
async fn a_change_that_changes_nothing_writes_nothing() {
    let server = Server::start(Memory::new(Writes::Conditional));
    let project = project(&server);
    add(&project, "a:v1").await;
    compose(&project, &[layer("a:v1")]).await;
    let sent = server.seen("PUT").len();
    let outcome = project
        .change_configuration(&change("a:v1"), None)
        .await
        .unwrap();
    assert!(!outcome.changed);
    assert_eq!(server.seen("PUT").len(), sent);
}

#[tokio::test]
async fn a_tag_goes_alone_or_not_at_all_where_only_digests_are_deleted() {
    let memory = Memory::new(Writes::Conditional).deleting(Deletes::DigestsOnly);
    let server = Server::start(memory);
    let project = project(&server);
    for text in ["a:v1", "a:v2", "b:v1"] {
        add(&project, text).await;
    }
    let repository = project.component(&"a".parse().unwrap());
    let v1 = repository
        .manifest(&"v1".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    let same: Reference = "same".parse().unwrap();
    repository
        .put_manifest(&same, &v1.media_type, v1.bytes, &Condition::Always)
        .await
        .unwrap();
    let error = project.delete_version(&layer("a:v1")).await.unwrap_err();
    assert!(matches!(error, OpsError::SharedManifest { .. }), "{error}");
    project.delete_version(&layer("a:v2")).await.unwrap();
    let tags = repository.tags().await.unwrap();
    let tags: Vec<_> = tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(tags, ["same", "v1"]);
    // All of it may go.
    let name = "a".parse().unwrap();
    assert_eq!(project.delete_component(&name).await.unwrap(), 2);
    assert_eq!(project.components().await.unwrap(), ["b".parse().unwrap()]);
}

#[tokio::test]
async fn a_release_survives_the_way_through_a_layout() {
    let (one, two) = (
        Server::start(Memory::new(Writes::Conditional)),
        Server::start(Memory::new(Writes::Plain)),
    );
    let here = project(&one);
    add(&here, "a:v1").await;
    compose(&here, &[layer("a:v1")]).await;
    let (name, latest) = ("project".parse().unwrap(), "latest".parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let layout = Place::Layout(Layout::create(directory.path()).unwrap());
    let from = Place::Remote(here.configuration(&name));
    let there = project(&two);
    let to = Place::Remote(there.configuration(&name));
    let tag = Reference::Tag(Clone::clone(&latest));
    for _ in 0..2 {
        transfer::image(&from, &tag, &layout, Some(&latest))
            .await
            .unwrap();
        transfer::image(&layout, &tag, &to, Some(&latest))
            .await
            .unwrap();
    }
    let channel = Channel::latest();
    let sent = here.show_configuration(&name, &channel).await.unwrap();
    let arrived = there.show_configuration(&name, &channel).await.unwrap();
    assert_eq!(sent, arrived);
    // Layer and configuration, each once.
    let uploads = two.seen("PUT").into_iter();
    let uploads = uploads.filter(|request| request.target.contains("/blobs/"));
    assert_eq!(uploads.count(), 2);
}
