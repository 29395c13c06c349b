//! An image in an archive as `docker save` and `podman save` write it: `manifest.json` names, for
//! each image, its configuration and its layers. Called by `source`.
//!
//! The layers are `<id>/layer.tar` in archives of old engines, with symbolic links between layers
//! that are the same, `<hash>.tar` in those of podman, and blobs of an OCI layout in those of
//! engines of today. Mostly they are not compressed, and then the image's configuration has their
//! digests: nothing has to be read to know them.

use std::io;

use deploy_spec::{
    Algorithm, Descriptor, Digest, Hasher, Outline, component::Layer, media_type::Compression,
    release::Image,
};
use deployctl::client::{Content, Part, PartReader};
use serde::Deserialize;

use super::{
    DOCUMENT_MAX, SourceImage,
    entries::Entries,
    image::{Found, Said, Wanted, assemble},
    store::{Files, Store, verify},
};
use crate::{
    ImportError,
    error::failed,
    reference::{Choice, ImageName},
};

const MANIFEST: &str = "manifest.json";
/// How many manifests are looked at to find the one of an image.
const MANIFESTS_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// True for an archive that has what Docker always wrote.
pub(super) fn is_one(entries: &Entries) -> bool {
    entries.has(MANIFEST)
}

/// Returns an image of the archive.
pub(super) async fn open(
    entries: Entries,
    choice: &Choice,
    origin: String,
    wanted: &Wanted,
) -> Result<SourceImage, ImportError> {
    let (reading, chosen) = (entries.clone(), choice.clone());
    let parts = tokio::task::spawn_blocking(move || read(&reading, &chosen)).await??;
    let store = Store::Files(Files::Archive(entries));
    let found = manifest_of(&store, &parts.config_digest).await;
    let found = found.filter(|found| found.outline.layers.len() == parts.layers.len());
    let (digest, annotations) = match found {
        Some(found) => (found.digest, found.outline.annotations),
        None => (parts.config_digest, Default::default()),
    };
    let said = Said {
        origin,
        name: parts.name,
    };
    assemble(
        said,
        digest,
        annotations,
        &parts.config,
        parts.layers,
        wanted,
    )
}

/// What the archive has of one image.
struct Parts {
    name: Option<String>,
    config: Vec<u8>,
    config_digest: Digest,
    layers: Vec<(Layer, Content)>,
}

fn read(entries: &Entries, choice: &Choice) -> Result<Parts, ImportError> {
    let refused = |reason: String| ImportError::NotAnArchive {
        path: entries.path().to_owned(),
        reason,
    };
    let missing = |name: &str| entries.missing(name);
    let items = entries.document(MANIFEST, DOCUMENT_MAX)?;
    let items = items.ok_or_else(|| missing(MANIFEST))?;
    let items: Vec<Item> = serde_json::from_slice(&items)
        .map_err(|error| refused(format!("`{MANIFEST}` is not valid: {error}")))?;
    let place = entries.path().display().to_string();
    let item = choose(&items, choice, &place)?;
    let config = entries.document(&item.config, DOCUMENT_MAX)?;
    let config = config.ok_or_else(|| missing(&item.config))?;
    let config_digest = match named(&item.config) {
        Some(expected) => {
            verify(&item.config, &expected, &config)?;
            expected
        }
        None => Digest::sha256(&config),
    };
    let (_, diff_ids) = Image::parse(&config)
        .map_err(|error| refused(format!("`{}`: {error}", item.config.escape_debug())))?;
    let mut layers = Vec::with_capacity(item.layers.len());
    for (index, name) in item.layers.iter().enumerate() {
        let part = entries.find(name)?.ok_or_else(|| missing(name))?;
        layers.push(layer(name, part, diff_ids.get(index))?);
    }
    Ok(Parts {
        name: item.repo_tags.iter().flatten().next().cloned(),
        config,
        config_digest,
        layers,
    })
}

fn choose<'a>(items: &'a [Item], choice: &Choice, place: &str) -> Result<&'a Item, ImportError> {
    let there = || {
        items
            .iter()
            .flat_map(|item| item.repo_tags.iter().flatten())
    };
    let several = |count| ImportError::SeveralImages {
        place: place.to_owned(),
        count,
        there: there().cloned().collect(),
    };
    let name = match choice {
        Choice::Only => {
            return match items {
                [only] => Ok(only),
                items => Err(several(items.len())),
            };
        }
        Choice::Name(name) => name,
    };
    let wanted = name.parse::<ImageName>().ok();
    let is_it = |tag: &String| tag == name || (wanted.is_some() && tag.parse().ok() == wanted);
    let mut found = items
        .iter()
        .filter(|item| item.repo_tags.iter().flatten().any(is_it));
    match (found.next(), found.count()) {
        (Some(item), 0) => Ok(item),
        (Some(_), others) => Err(several(others + 1)),
        (None, _) => Err(ImportError::NoSuchImage {
            place: place.to_owned(),
            wanted: name.clone(),
            there: there().cloned().collect(),
        }),
    }
}

/// Returns what a layer is by its first bytes, its name and what the configuration says.
fn layer(
    name: &str,
    part: Part,
    diff_id: Option<&Digest>,
) -> Result<(Layer, Content), ImportError> {
    let mut first = [0; Compression::SNIFF_BYTES];
    let count = part
        .read_at(0, &mut first)
        .map_err(failed("read", &part.path))?;
    let compression = Compression::sniff(&first[..count]);
    let digest = match (compression, diff_id) {
        (Compression::None, Some(diff_id)) => diff_id.clone(),
        // A blob of a layout is named after its own bytes, any other file after what is in it.
        _ => match named(name).filter(|_| name.contains("blobs/")) {
            Some(digest) => digest,
            None => hash(&part)?,
        },
    };
    let layer = Layer {
        digest,
        size: part.size,
        media_type: compression.layer_media_type().to_owned(),
        diff_id: None,
        unpacked_size: (compression == Compression::None).then_some(part.size),
    };
    Ok((layer, Content::Part(part)))
}

fn hash(part: &Part) -> Result<Digest, ImportError> {
    struct Sink(Hasher);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut reader = io::BufReader::with_capacity(128 * 1024, PartReader::from(part.clone()));
    let mut sink = Sink(Hasher::new(Algorithm::Sha256));
    io::copy(&mut reader, &mut sink).map_err(failed("read", &part.path))?;
    Ok(sink.0.finish())
}

/// Returns the digest that a file is named after: `<hash>.json`, `blobs/sha256/<hash>`.
fn named(name: &str) -> Option<Digest> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let hexadecimal = base.split('.').next().unwrap_or(base);
    let algorithm = Algorithm::ALL.into_iter().find(|algorithm| {
        let directory = format!("blobs/{algorithm}/");
        name.contains(&directory) || (!name.contains('/') && *algorithm == Algorithm::Sha256)
    })?;
    Digest::from_hex(algorithm, hexadecimal).ok()
}

/// Returns the manifest of the image with this configuration, where the archive is a layout too.
/// What it cannot read, it has not.
async fn manifest_of(store: &Store, config: &Digest) -> Option<Found> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Descriptor>,
    }
    let Store::Files(files) = store else {
        return None;
    };
    let files = files.clone();
    let index = tokio::task::spawn_blocking(move || files.index())
        .await
        .ok()?;
    let mut open = serde_json::from_slice::<Index>(&index.ok()?)
        .ok()?
        .manifests;
    for _ in 0..MANIFESTS_MAX {
        let descriptor = open.pop()?;
        let Ok(Some((_, bytes))) = store.manifest(&descriptor.digest).await else {
            continue;
        };
        let Ok(outline) = Outline::parse(None, &bytes) else {
            continue;
        };
        if outline
            .config
            .as_ref()
            .is_some_and(|found| found.digest == *config)
        {
            return Some(Found {
                digest: descriptor.digest,
                outline,
            });
        }
        open.extend(outline.manifests);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(tags: &[&str]) -> Item {
        Item {
            config: tags.join(","),
            repo_tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
            layers: Vec::new(),
        }
    }

    #[test]
    fn images_are_chosen_by_any_form_of_their_name() {
        let items = [
            item(&["app:1", "app:latest"]),
            item(&["docker.io/library/other:2"]),
        ];
        let chosen = |name: &str| {
            let choice = Choice::Name(name.to_owned());
            choose(&items, &choice, "a.tar").map(|item| item.config.clone())
        };
        for name in ["app:1", "app", "docker.io/library/app:1"] {
            assert_eq!(chosen(name).unwrap(), "app:1,app:latest", "{name}");
        }
        assert_eq!(chosen("other:2").unwrap(), "docker.io/library/other:2");
        let error = chosen("app:3").unwrap_err().to_string();
        let expected = "there is no image `app:3` in `a.tar`; there is `app:1`, `app:latest`, `docker.io/library/other:2`";
        assert_eq!(error, expected);
        let twice = [item(&["app:1"]), item(&["app:1"])];
        for choice in [Choice::Only, Choice::Name("app:1".into())] {
            let error = choose(&twice, &choice, "a.tar").err().unwrap();
            assert!(matches!(error, ImportError::SeveralImages { count: 2, .. }));
        }
        assert!(choose(&items[..1], &Choice::Only, "a.tar").is_ok());
    }

    #[test]
    fn names_of_files_tell_digests() {
        let digest = Digest::sha256(b"");
        let hexadecimal = digest.hex();
        let table = [
            (format!("{hexadecimal}.json"), true),
            (format!("blobs/sha256/{hexadecimal}"), true),
            (format!("{hexadecimal}/layer.tar"), false),
            ("config.json".to_owned(), false),
        ];
        for (name, is_named) in table {
            assert_eq!(named(&name), is_named.then(|| digest.clone()), "{name}");
        }
    }
}
