//! The program on buckets that it cannot use: one line says what is wrong, the next one what to
//! do about it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use tokio::net::TcpListener;

use crate::{backends::place_on_minio, program::program};

/// Starts the program, which ends, and returns what it says is wrong, and what to do.
async fn refused(store: &str, environment: Vec<(String, String)>) -> (String, String) {
    let mut command = program(&[
        "-addr",
        "127.0.0.1:0",
        "-anonymous",
        "write",
        "-store",
        store,
    ]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.envs(environment);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let [problem, hint] = lines[..] else {
        panic!("{text}");
    };
    let begin = format!("deploy-registry: cannot use `{store}`: ");
    let problem = problem.strip_prefix(&begin).expect(&text);
    let hint = hint.strip_prefix("hint: ").expect(&text);
    (problem.to_owned(), hint.to_owned())
}

#[tokio::test]
async fn bucket_key_and_endpoint_that_are_wrong_are_told_apart() {
    let test = "bucket_key_and_endpoint_that_are_wrong_are_told_apart";
    let Some(place) = place_on_minio(test) else {
        return;
    };
    let url = format!("http://{}", place.address());
    let (problem, hint) = refused("s3://not-there/x", place.environment(&[])).await;
    let expected = format!("there is no such bucket at {url}: 404 Not Found: NoSuchBucket");
    assert!(problem.starts_with(&expected), "{problem}");
    assert!(hint.starts_with("create it first"), "{hint}");

    for (name, code) in [
        ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"),
    ] {
        let environment = place.environment(&[(name, "wrong")]);
        let (problem, hint) = refused(&place.url(), environment).await;
        let expected = format!("{url} refuses access: 403 Forbidden: {code}");
        assert!(problem.starts_with(&expected), "{problem}");
        assert!(
            hint.starts_with("look whether the keys are right"),
            "{hint}"
        );
    }

    // Held, but not listened on: nobody else gets the port meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = format!("http://{}", socket.local_addr().unwrap());
    let encrypted = format!("https://{}", place.address());
    for (endpoint, cause) in [(silent, "Connection refused"), (encrypted, "")] {
        let environment = place.environment(&[("AWS_ENDPOINT_URL", &endpoint)]);
        let (problem, hint) = refused(&place.url(), environment).await;
        assert!(
            problem.starts_with(&format!("{endpoint} cannot be reached: ")),
            "{problem}"
        );
        assert!(problem.contains(cause), "{problem}");
        assert!(
            hint.starts_with("look whether the endpoint is right"),
            "{hint}"
        );
    }
}

/// A bucket on something like an S3 server, which does not look at one header.
#[derive(Clone)]
struct Careless {
    ignored: HeaderName,
    objects: Arc<Mutex<BTreeMap<String, (usize, Bytes)>>>,
}

impl Careless {
    /// Returns the URL of one that listens until the runtime ends.
    async fn start(ignored: HeaderName) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let objects = Arc::default();
        let router = Router::new()
            .fallback(answer)
            .with_state(Self { ignored, objects });
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn put(&self, key: &str, headers: &HeaderMap, body: Bytes) -> Response {
        let mut objects = self.objects.lock().unwrap();
        let version = objects.get(key).map(|(version, _)| *version);
        let asked = |name| headers.get(&name).filter(|_| name != self.ignored);
        let matches = |tag: &HeaderValue| version.is_some_and(|version| *tag == tag_of(version));
        if asked(header::IF_NONE_MATCH).is_some() && version.is_some()
            || asked(header::IF_MATCH).is_some_and(|tag| !matches(tag))
        {
            return status(StatusCode::PRECONDITION_FAILED);
        }
        let version = version.unwrap_or_default() + 1;
        objects.insert(key.to_owned(), (version, body));
        tagged(version, Body::empty())
    }
}

async fn answer(
    State(careless): State<Careless>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let found = careless.objects.lock().unwrap().get(uri.path()).cloned();
    match (method, found) {
        (Method::PUT, _) => careless.put(uri.path(), &headers, body),
        (Method::DELETE, _) => {
            careless.objects.lock().unwrap().remove(uri.path());
            status(StatusCode::NO_CONTENT)
        }
        (_, Some((version, bytes))) => tagged(version, bytes.into()),
        _ if uri.query().is_some() => Response::new("<ListBucketResult></ListBucketResult>".into()),
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn tag_of(version: usize) -> String {
    format!("\"{version}\"")
}

fn tagged(version: usize, body: Body) -> Response {
    let mut response = Response::new(body);
    let tag = HeaderValue::try_from(tag_of(version)).unwrap();
    response.headers_mut().insert(header::ETAG, tag);
    response
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[tokio::test]
async fn store_that_does_not_decide_between_writers_is_refused() {
    for (ignored, problem) in [
        (
            header::IF_NONE_MATCH,
            "it overwrites what `If-None-Match` should protect, so two writers of one tag would both succeed",
        ),
        (
            header::IF_MATCH,
            "it overwrites what `If-Match` should protect, so two writers of one tag would both succeed",
        ),
    ] {
        let endpoint = Careless::start(ignored).await;
        let environment = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "any"),
            ("AWS_SECRET_ACCESS_KEY", "any"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (said, hint) = refused("s3://bucket/x", environment.into()).await;
        assert_eq!(said, problem);
        assert!(
            hint.starts_with("use a store that honours If-None-Match and If-Match"),
            "{hint}"
        );
    }
}
