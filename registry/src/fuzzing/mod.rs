//! What holds whatever clients send: each function takes any input and panics where its property
//! does not hold. The fuzz targets (`fuzz/`) feed them with inputs, and a test with those that
//! are kept in the corpora. Not part of the library unless the feature `fuzzing` is on.

use std::{sync::LazyLock, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use deploy_spec::{
    Digest, Reference, RepositoryName,
    listing::{TagList, parse_next_link},
};
use futures::{TryStreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use object_store::{ObjectStoreExt as _, memory::InMemory, path::Path};
use tokio::{runtime::Runtime, sync::watch};

use crate::{
    Store,
    http::{
        conditions, pages,
        path::{PathError, Resource},
        query::Query,
        telemetry,
    },
    jobs::{Gc, Retention, collect},
    store::{Mode, Others, Progress, Scrub},
};

mod access;
mod registry;

pub use access::{people, strangers};

use registry::Registry;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts")
});

fn name() -> RepositoryName {
    "a".parse().expect("it fits the grammar")
}

/// A path that means something is written so that it means the same.
pub fn routes(input: &str) {
    for path in [
        input.to_owned(),
        format!("/v2/{input}"),
        format!("/v2/a/{input}"),
    ] {
        let written = match Resource::parse(&path) {
            Err(PathError::Digest(reason)) => {
                assert!(!reason.is_empty());
                continue;
            }
            Err(_) => continue,
            Ok(resource) => match &resource {
                Resource::Api => "/v2/".to_owned(),
                Resource::Catalog => "/v2/_catalog".to_owned(),
                Resource::Audit => "/v2/_deploytools/audit".to_owned(),
                Resource::Extensions => "/v2/_oci/ext/discover".to_owned(),
                Resource::Blob(name, digest) => format!("/v2/{name}/blobs/{digest}"),
                Resource::Uploads(name) => format!("/v2/{name}/blobs/uploads/"),
                Resource::Upload(name, Some(id)) => format!("/v2/{name}/blobs/uploads/{id}"),
                Resource::Upload(name, None) => format!("/v2/{name}/blobs/uploads/x"),
                Resource::Manifest(name, Reference::Tag(tag)) => {
                    format!("/v2/{name}/manifests/{tag}")
                }
                Resource::Manifest(name, Reference::Digest(digest)) => {
                    format!("/v2/{name}/manifests/{digest}")
                }
                Resource::Tags(name) => format!("/v2/{name}/tags/list"),
                Resource::Referrers(name, digest) => format!("/v2/{name}/referrers/{digest}"),
            },
        };
        assert_eq!(Resource::parse(&written), Resource::parse(&path), "{path}");
    }
}

/// A digest in a path is a digest or refused, and never another one.
pub fn digests(input: &str) {
    if let Ok(Resource::Blob(_, digest)) = Resource::parse(&format!("/v2/a/blobs/{input}")) {
        assert_eq!(digest.to_string().parse(), Ok(digest.clone()));
        assert_eq!(Digest::from_file_name(&digest.file_name()), Ok(digest));
    }
    let query = Query::parse(Some(&format!("digest={input}")));
    let Some(Ok(digest)) = query.get("digest").map(str::parse::<Digest>) else {
        return;
    };
    RUNTIME.block_on(async {
        let registry = Registry::new(Store::memory());
        let target = format!("/v2/a/blobs/uploads/?digest={digest}");
        let answer = registry.ask("POST", &target, &[], b"content").await;
        let stored = answer.expect("the request is sound").status == StatusCode::CREATED;
        assert_eq!(stored, digest == Digest::of(digest.algorithm(), b"content"));
    });
}

/// The link to the next page leads behind the last item, with the parameters that were given.
pub fn links(input: &str) {
    let (given, last) = input.split_once('\n').unwrap_or((input, "v1"));
    let query = Query::parse(Some(given));
    let _ = pages::limit(&query, deploy_spec::ErrorCode::NameInvalid);
    let link = pages::link("/v2/a/tags/list", &query, last, &["n", "artifactType"]);
    let link = link.to_str().expect("what we send is visible ASCII");
    let target = parse_next_link(link).expect("what we write can be read");
    let (path, next) = target.split_once('?').expect("there is a parameter");
    assert_eq!(path, "/v2/a/tags/list");
    let next = Query::parse(Some(next));
    assert_eq!(next.get("last"), Some(last));
    assert_eq!(next.get("n"), query.get("n"));
    assert_eq!(next.get("artifactType"), query.get("artifactType"));
    assert!(target.parse::<http::Uri>().is_ok());
    // A cursor of a client's own making is taken or refused, and never ends badly.
    RUNTIME.block_on(async {
        static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::new(Store::memory()));
        for path in ["/v2/_catalog", "/v2/a/tags/list", "/v2/a/referrers/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"] {
            REGISTRY.ask("GET", &format!("{path}?{given}"), &[], b"").await;
        }
    });
}

const CONTENT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// What a range selects is what is sent.
pub fn ranges(input: &str) {
    RUNTIME.block_on(async {
        let registry = Registry::new(Store::memory());
        let digest = Digest::sha256(CONTENT);
        let target = format!("/v2/a/blobs/uploads/?digest={digest}");
        registry.must("POST", &target, CONTENT).await;
        let (range, condition) = input.split_once('\n').unwrap_or((input, ""));
        let mut headers = vec![(header::RANGE, range)];
        if !condition.is_empty() {
            headers.push((header::IF_RANGE, condition));
        }
        let target = format!("/v2/a/blobs/{digest}");
        let Some(answer) = registry.ask("GET", &target, &headers, b"").await else {
            return;
        };
        let length = answer.header(header::CONTENT_LENGTH).parse();
        match answer.status {
            StatusCode::OK => assert_eq!(answer.body, CONTENT),
            StatusCode::PARTIAL_CONTENT => {
                let sent = answer.header(header::CONTENT_RANGE);
                let bounds = sent
                    .strip_prefix("bytes ")
                    .and_then(|sent| sent.split_once('/'));
                let (bounds, size) = bounds.expect("the form is `bytes a-b/size`");
                let (first, last) = bounds.split_once('-').expect("there are two");
                let (first, last): (usize, usize) = (
                    first.parse().expect("a number"),
                    last.parse().expect("a number"),
                );
                assert_eq!(size, CONTENT.len().to_string());
                assert_eq!(answer.body, CONTENT[first..=last]);
                assert_eq!(length, Ok(answer.body.len()));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let whole = format!("bytes */{}", CONTENT.len());
                assert_eq!(answer.header(header::CONTENT_RANGE), whole);
            }
            other => panic!("{other}"),
        }
    });
}

/// A chunk is appended where the upload stands, or not at all.
pub fn content_ranges(input: &str) {
    RUNTIME.block_on(async {
        let registry = Registry::new(Store::memory());
        let begun = registry.must("POST", "/v2/a/blobs/uploads/", b"").await;
        let location = begun.header(header::LOCATION).to_owned();
        let (half, rest) = CONTENT.split_at(10);
        registry.must("PATCH", &location, half).await;
        let headers = [(header::CONTENT_RANGE, input)];
        let Some(answer) = registry.ask("PATCH", &location, &headers, rest).await else {
            return;
        };
        let taken = answer.status == StatusCode::ACCEPTED;
        let fits = input == "10-35" || input == "bytes 10-35/36";
        assert!(taken || !fits, "{}", answer.status);
        let status = registry.must("GET", &location, b"").await;
        let expected = if taken { "0-35" } else { "0-9" };
        assert_eq!(status.header(header::RANGE), expected);
        if !taken {
            registry.must("PATCH", &location, rest).await;
        }
        let digest = Digest::sha256(CONTENT);
        registry
            .must("PUT", &format!("{location}?digest={digest}"), b"")
            .await;
    });
}

/// Conditions hold or not, a client's wish to wait is bounded, and its trace is read.
pub fn conditions(input: &str) {
    let Ok(value) = HeaderValue::from_str(input) else {
        return;
    };
    let with = |name| HeaderMap::from_iter([(name, value.clone())]);
    let digest = Digest::sha256(CONTENT);
    let known = conditions::is_known(&with(header::IF_NONE_MATCH), &digest);
    assert!(!known || input.contains('*') || input.contains(digest.hex()));
    conditions::of_write(&with(header::IF_MATCH));
    conditions::of_write(&with(header::IF_NONE_MATCH));
    let wait = conditions::wait(&with(HeaderName::from_static("prefer")));
    assert!(wait.is_none_or(|wait| wait <= conditions::WAIT_MAX));
    if let Some(parent) = telemetry::remote(input, Some(input)) {
        let written = format!("{}-{}", parent.trace_id(), parent.span_id());
        assert!(input.contains(&written));
    }
}

/// A manifest that is taken is given back byte by byte, by tag and by digest.
pub fn manifests(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (media_type, bytes) = match end {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (&b""[..], input),
    };
    let Ok(media_type) = std::str::from_utf8(media_type) else {
        return;
    };
    RUNTIME.block_on(async {
        let registry = Registry::new(Store::memory());
        for blob in [&b"{}"[..], CONTENT] {
            let digest = Digest::sha256(blob);
            let target = format!("/v2/a/blobs/uploads/?digest={digest}");
            registry.must("POST", &target, blob).await;
        }
        let headers = [(header::CONTENT_TYPE, media_type)];
        let target = "/v2/a/manifests/t";
        let Some(answer) = registry.ask("PUT", target, &headers, bytes).await else {
            return;
        };
        let digest = Digest::sha256(bytes);
        if answer.status != StatusCode::CREATED {
            let tag = registry.ask("GET", target, &[], b"").await;
            let tag = tag.expect("the request is sound");
            assert_eq!(tag.status, StatusCode::NOT_FOUND);
            return;
        }
        for reference in ["t", &digest.to_string()] {
            let target = format!("/v2/a/manifests/{reference}");
            let answer = registry.must("GET", &target, b"").await;
            assert_eq!(answer.body, bytes);
            let name = HeaderName::from_static("docker-content-digest");
            assert_eq!(answer.header(name), digest.to_string());
        }
        let subject = answer.headers.get("oci-subject");
        if let Some(subject) = subject.and_then(|subject| subject.to_str().ok()) {
            let target = format!("/v2/a/referrers/{subject}");
            let referrers = registry.must("GET", &target, b"").await;
            let referrers = String::from_utf8_lossy(&referrers.body).into_owned();
            assert!(referrers.contains(digest.hex()), "{referrers}");
        }
        registry
            .must("DELETE", &format!("/v2/a/manifests/{digest}"), b"")
            .await;
    });
}

/// An object of the store that somebody else wrote is an error, and never a panic: the same
/// bytes stand wherever a header is read.
pub fn records(input: &[u8]) {
    RUNTIME.block_on(async {
        let memory = InMemory::new();
        let digest = Digest::sha256(CONTENT);
        let (hex, id) = (digest.hex(), "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
        for key in [
            format!("blobs/sha256/{}/{hex}", &hex[..2]),
            format!("repos/a/_manifests/sha256/{hex}"),
            "repos/a/_tags/t".to_owned(),
            format!("repos/a/_blobs/sha256/{hex}"),
            format!("repos/a/_referrers/sha256/{hex}/sha256/{hex}"),
            format!("uploads/{id}"),
            "catalog/a".to_owned(),
        ] {
            let (key, payload) = (Path::from(key), input.to_vec().into());
            (memory.put(&key, payload).await).expect("memory takes everything");
        }
        let store = Store::multipart(memory);
        let (name, id) = (name(), id.parse().expect("it is one"));
        let tag: deploy_spec::Tag = "t".parse().expect("it fits the grammar");
        if let Ok(blob) = store.blob(&name, &digest).await {
            let range = 0..blob.size.min(1024);
            if let Ok(stream) = store.read_blob(&blob, range).await {
                let _: Result<Vec<Bytes>, _> = stream.try_collect().await;
            }
        }
        let _ = store.manifest(&name, &digest.clone().into()).await;
        let _ = store.tag(&name, &tag).await;
        let _ = store.manifest(&name, &Reference::Tag(tag.clone())).await;
        let _ = store.referrers(&name, &digest, None, None, 10).await;
        let _ = store.upload(&name, &id).await;
        let chunk = stream::iter([Ok(Bytes::from_static(b"more"))]);
        let _ = store.append_upload(&name, &id, None, chunk).await;
        let rest = stream::iter([]);
        let _ = store.finish_upload(&name, &id, None, rest, &digest).await;
        let _ = store.expire_uploads(jiff::Timestamp::MAX).await;
        let gc = Gc {
            grace: Duration::ZERO,
            rate: 0,
            upload_expiry: Duration::ZERO,
            retention: Retention {
                versions: Some(1),
                releases: Some(1),
            },
            dry_run: false,
        };
        let (progress, stop) = (Progress::default(), watch::channel(false).1);
        let _ = collect(&store, &gc, Others::Offline, &progress, stop).await;
        let scrub = Scrub::new(Mode::Do, 0, |pace| pace);
        let _ = store.scrub(&scrub, &mut |_| {}).await;
        let _ = store.delete_tag(&name, &tag).await;
        let _ = store.delete_manifest(&name, &digest).await;
        let _ = store.delete_blob(&name, &digest).await;
    });
}

/// Whatever is asked, in whatever order: nothing fails on our side, errors come in an envelope,
/// and what is listed can be had.
///
/// Requests stand behind each other, with `---` between them: a line `METHOD target`, headers,
/// an empty line, the body. In targets and headers `{digest}` is the digest of that body, and
/// `{location}` where the last answer pointed.
pub fn requests(input: &[u8]) {
    RUNTIME.block_on(async {
        const SEPARATOR: &[u8] = b"\n---\n";
        const REQUESTS_MAX: usize = 16;
        let registry = Registry::new(Store::memory());
        let mut location = String::new();
        let mut rest = input;
        for _ in 0..REQUESTS_MAX {
            let end = (rest.windows(SEPARATOR.len())).position(|window| window == SEPARATOR);
            let one = &rest[..end.unwrap_or(rest.len())];
            if let Some(request) = read_request(one, &location) {
                let answer = registry.send(request).await;
                if answer.headers.contains_key(header::LOCATION) {
                    location = answer.header(header::LOCATION).to_owned();
                }
            }
            let Some(end) = end else {
                break;
            };
            rest = &rest[end + SEPARATOR.len()..];
        }
        let listed = registry.ask("GET", "/v2/a/tags/list", &[], b"").await;
        let listed = listed.expect("the request is sound");
        let Ok(TagList { tags, .. }) = serde_json::from_slice(&listed.body) else {
            assert_eq!(listed.status, StatusCode::NOT_FOUND);
            return;
        };
        for tag in tags {
            let target = format!("/v2/a/manifests/{tag}");
            registry.must("GET", &target, b"").await;
        }
    });
}

fn read_request(text: &[u8], location: &str) -> Option<Request<Body>> {
    let split = text.windows(2).position(|window| window == b"\n\n");
    let (head, body) = match split {
        Some(split) => (&text[..split], &text[split + 2..]),
        None => (text, &b""[..]),
    };
    let digest = Digest::sha256(body).to_string();
    let head = std::str::from_utf8(head).ok()?;
    let head = head
        .replace("{digest}", &digest)
        .replace("{location}", location);
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        request = request.header(name.trim(), value.trim());
    }
    request.body(Body::from(body.to_vec())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands over each input that is kept for the target.
    fn replay(target: &str, property: impl Fn(&[u8])) {
        let corpora = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpora.join(target)).unwrap() {
            let path = entry.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            let caught =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| property(&input)));
            assert!(caught.is_ok(), "{} breaks it", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{target} has no corpus");
    }

    fn replay_text(target: &str, property: impl Fn(&str)) {
        replay(target, |input| {
            std::str::from_utf8(input).into_iter().for_each(&property);
        });
    }

    #[test]
    fn properties_hold_for_what_fuzzing_has_found_so_far() {
        replay_text("routes", routes);
        replay_text("digests", digests);
        replay_text("links", links);
        replay_text("ranges", ranges);
        replay_text("content_ranges", content_ranges);
        replay_text("conditions", conditions);
        replay("manifests", manifests);
        replay("records", records);
        replay("requests", requests);
        replay_text("people", people);
        replay("strangers", strangers);
    }
}
