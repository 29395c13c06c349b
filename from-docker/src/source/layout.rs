//! An image in an OCI image layout (OCI image-spec, "Image Layout"). Called by `source`.

use std::path::Path;

use deploy_spec::Descriptor;
use deployctl::layout::Layout;
use serde::Deserialize;

use super::{
    DOCUMENT_MAX, SourceImage,
    entries::Entries,
    image::{self, Said, Wanted},
    store::{Files, Store},
};
use crate::{ImportError, reference::Choice};

const MARKER: &str = "oci-layout";
/// What a manifest is called in its layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What containerd calls it everywhere.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// Returns an image of the layout in a directory.
pub(super) async fn directory(
    path: &Path,
    choice: &Choice,
    origin: String,
    wanted: &Wanted,
) -> Result<SourceImage, ImportError> {
    let path = path.to_owned();
    let layout = tokio::task::spawn_blocking(move || Layout::open(path)).await??;
    open(Files::Directory(layout), choice, origin, wanted).await
}

/// Returns an image of the layout in an archive.
pub(super) async fn archive(
    entries: Entries,
    choice: &Choice,
    origin: String,
    wanted: &Wanted,
) -> Result<SourceImage, ImportError> {
    if !entries.has(MARKER) {
        return Err(entries.missing(MARKER));
    }
    open(Files::Archive(entries), choice, origin, wanted).await
}

async fn open(
    files: Files,
    choice: &Choice,
    origin: String,
    wanted: &Wanted,
) -> Result<SourceImage, ImportError> {
    let place = files.name();
    let reading = files.clone();
    let manifests = tokio::task::spawn_blocking(move || manifests(&reading)).await??;
    let descriptor = match choice {
        Choice::Name(name) => find(&manifests, name).ok_or_else(|| ImportError::NoSuchImage {
            place: place.clone(),
            wanted: name.clone(),
            there: names(&manifests),
        })?,
        Choice::Only => match &manifests[..] {
            [] => {
                return Err(ImportError::NotAnImage {
                    image: origin,
                    reason: "its layout has no images".to_owned(),
                });
            }
            [only] => only,
            // One image for several platforms.
            several
                if names(several).len() < 2 && several.iter().any(|one| one.platform.is_some()) =>
            {
                image::choose(several, wanted, &origin)?
            }
            several => {
                return Err(ImportError::SeveralImages {
                    place,
                    count: several.len(),
                    there: names(several),
                });
            }
        },
    };
    let name = called(descriptor, &place);
    let store = Store::Files(files);
    let found = image::follow(&store, descriptor, wanted, &origin).await?;
    let said = Said {
        origin,
        name: Some(name),
    };
    image::load(&store, found, wanted, said).await
}

fn manifests(files: &Files) -> Result<Vec<Descriptor>, ImportError> {
    let bytes = files.index()?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| ImportError::NotAnImage {
        image: files.name(),
        reason: format!("its `index.json` is not valid: {error}"),
    })?;
    debug_assert!(bytes.len() as u64 <= DOCUMENT_MAX);
    Ok(index.manifests)
}

fn find<'a>(manifests: &'a [Descriptor], name: &str) -> Option<&'a Descriptor> {
    [REF_NAME, CONTAINERD_NAME].iter().find_map(|key| {
        let mut all = manifests.iter();
        all.find(|manifest| manifest.annotation(key) == Some(name))
    })
}

fn names(manifests: &[Descriptor]) -> Vec<String> {
    let name = |manifest: &Descriptor| {
        let name = manifest.annotation(REF_NAME);
        name.or_else(|| manifest.annotation(CONTAINERD_NAME))
            .map(str::to_owned)
    };
    let mut names: Vec<String> = manifests.iter().filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}

/// Returns what an image is called: as its engine called it, or else after the layout and its tag.
fn called(descriptor: &Descriptor, place: &str) -> String {
    if let Some(full) = descriptor.annotation(CONTAINERD_NAME) {
        return full.to_owned();
    }
    let base = place
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(place);
    let base = base.strip_suffix(".tar").unwrap_or(base);
    match descriptor.annotation(REF_NAME) {
        Some(full) if full.contains([':', '/']) => full.to_owned(),
        Some(tag) => format!("{base}:{tag}"),
        None => base.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use deploy_spec::{Digest, media_type};

    use super::*;

    fn manifest(annotations: &[(&str, &str)]) -> Descriptor {
        let pairs = annotations.iter();
        let pairs = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut manifest = Descriptor::new(media_type::IMAGE_MANIFEST, Digest::sha256(b""), 0);
        manifest.annotations = Some(pairs.collect());
        manifest
    }

    #[test]
    fn images_are_called_after_their_engine_or_their_layout() {
        let table = [
            (manifest(&[(REF_NAME, "1")]), "/a/app", "app:1"),
            (manifest(&[(REF_NAME, "1")]), "b/app.tar", "app:1"),
            (manifest(&[]), "app/", "app"),
            (
                manifest(&[(REF_NAME, "x.example/app:1")]),
                "a",
                "x.example/app:1",
            ),
            (
                manifest(&[(REF_NAME, "1"), (CONTAINERD_NAME, "docker.io/a:1")]),
                "a",
                "docker.io/a:1",
            ),
        ];
        for (manifest, place, expected) in table {
            assert_eq!(called(&manifest, place), expected);
        }
    }

    #[test]
    fn images_are_found_by_each_of_their_names() {
        let manifests = [
            manifest(&[(REF_NAME, "1")]),
            manifest(&[(REF_NAME, "2"), (CONTAINERD_NAME, "a:2")]),
        ];
        assert_eq!(find(&manifests, "1"), Some(&manifests[0]));
        assert_eq!(find(&manifests, "a:2"), Some(&manifests[1]));
        assert_eq!(find(&manifests, "3"), None);
        assert_eq!(names(&manifests), ["1", "2"]);
    }
}
