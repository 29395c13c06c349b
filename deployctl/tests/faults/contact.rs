//! First contact, authentication, retries and lists, against a registry that misbehaves.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::support::{
    registry, registry_as, repository,
    server::{Reply, Request, Server},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use deploy_spec::{Digest, RepositoryName};
use deployctl::client::{ClientError, Credentials, Options, Registry, Secret, Watched};
use serde_json::json;

#[tokio::test]
async fn html_is_no_registry() {
    let server = Server::start(|_: &Request| {
        Reply::new(200)
            .header("Content-Type", "text/html; charset=utf-8")
            .body("<html>")
    });
    let error = registry(&server.address).ping().await.unwrap_err();
    assert!(matches!(error, ClientError::NotARegistry { .. }), "{error}");
    assert!(error.to_string().contains(&server.address) && error.to_string().contains("HTML"));
}

#[tokio::test]
async fn html_behind_the_door_is_no_registry_either() {
    let server = Server::start(|request: &Request| match request.target.as_str() {
        "/v2/" => Reply::new(200),
        _ => Reply::new(200)
            .header("Content-Type", "text/html")
            .body("<html>"),
    });
    let repository = repository(&server.address);
    let error = repository.tags().await.unwrap_err();
    assert!(matches!(error, ClientError::NotARegistry { .. }), "{error}");
    let error = repository
        .manifest(&"v1".parse().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NotARegistry { .. }), "{error}");
}

#[tokio::test]
async fn what_does_not_speak_http_is_no_registry() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.9\r\n").ok();
        }
    });
    let error = registry(&address).ping().await.unwrap_err();
    assert!(matches!(error, ClientError::NotARegistry { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_that_is_down_is_said_to_be_at_once() {
    // Bound and not listening: a port that was given back may be another test's server by now.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = closed.local_addr().unwrap();
    let error = registry(&address.to_string()).ping().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let expected = format!("cannot reach registry `{address}`: connection refused");
    assert_eq!(error.to_string(), expected);
}

/// Returns a server that fails a number of times before it answers.
fn failing(times: usize, status: u16) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |request: &Request| match request.target.as_str() {
        "/v2/" => Reply::new(200),
        _ if count.fetch_add(1, Ordering::SeqCst) < times => {
            Reply::new(status).header("Retry-After", "0")
        }
        _ => Reply::new(200).json(json!({"name": "components/code", "tags": ["v1"]})),
    })
}

#[tokio::test]
async fn failures_of_the_moment_are_tried_again() {
    for status in [429, 500, 502, 503, 504] {
        let server = failing(2, status);
        let tags = repository(&server.address).tags().await.unwrap();
        assert_eq!(tags.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn attempts_are_bounded_and_refusals_are_not_repeated() {
    for (status, expected) in [(503, 3), (400, 1), (403, 1)] {
        let server = failing(usize::MAX, status);
        let error = repository(&server.address).tags().await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { .. }), "{error}");
        assert_eq!(server.seen("GET").len(), expected, "{status}");
    }
}

#[tokio::test]
async fn errors_of_the_registry_are_passed_on() {
    let server = Server::start(|request: &Request| match request.target.as_str() {
        "/v2/" => Reply::new(200),
        _ => Reply::new(403).json(json!({"errors": [{"code": "DENIED", "message": "not you"}]})),
    });
    let error = repository(&server.address).tags().await.unwrap_err();
    assert_eq!(error.code(), Some(deploy_spec::ErrorCode::Denied));
    assert!(error.to_string().contains("not you"), "{error}");
}

#[tokio::test]
async fn basic_credentials_are_sent_once_they_are_asked_for() {
    let wanted = format!("Basic {}", STANDARD.encode("user:secret"));
    let server = Server::start(
        move |request: &Request| match request.header("authorization") {
            Some(found) if found == wanted => {
                Reply::new(200).json(json!({"name": "x", "tags": []}))
            }
            _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        },
    );
    let error = repository(&server.address).tags().await.unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. }), "{error}");
    let credentials = Credentials::Basic {
        username: "user".to_owned(),
        password: Secret::new("secret"),
    };
    // In the clear, and nobody said that this is meant.
    let registry = registry_as(&server.address, credentials.clone());
    let name: RepositoryName = "components/code".parse().unwrap();
    let error = registry.repository(name.clone()).tags().await.unwrap_err();
    assert!(matches!(error, ClientError::InTheClear { .. }), "{error}");
    let registry = registry_as(&format!("http://{}", server.address), credentials);
    let repository = registry.repository(name);
    repository.tags().await.unwrap();
    let before = server.seen("GET").len();
    repository.tags().await.unwrap();
    assert_eq!(
        server.seen("GET").len(),
        before + 1,
        "the header is remembered"
    );
}

#[tokio::test]
async fn a_token_that_ran_out_is_renewed() {
    let address = Arc::<std::sync::OnceLock<String>>::default();
    let (known, issued) = (address.clone(), AtomicUsize::new(0));
    let valid = Arc::new(AtomicUsize::new(1));
    let current = valid.clone();
    let server = Server::start(move |request: &Request| {
        if request.path() == "/token" {
            assert_eq!(
                request.query("scope").unwrap(),
                "repository:components/code:pull"
            );
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::new(200).json(json!({"token": format!("t{number}")}));
        }
        let wanted = format!("Bearer t{}", current.load(Ordering::SeqCst));
        if request.header("authorization") == Some(wanted.as_str()) {
            return Reply::new(200).json(json!({"name": "x", "tags": []}));
        }
        let realm = format!("http://{}/token", known.get().unwrap());
        Reply::new(401).header(
            "WWW-Authenticate",
            format!("Bearer realm=\"{realm}\",service=\"registry\""),
        )
    });
    address.set(server.address.clone()).unwrap();
    let repository = repository(&server.address);
    repository.tags().await.unwrap();
    valid.store(2, Ordering::SeqCst);
    repository.tags().await.unwrap();
}

#[tokio::test]
async fn all_pages_are_read_and_a_circle_is_left() {
    let server = Server::start(|request: &Request| {
        let page = |tags: &[&str], next: Option<&str>| {
            let reply = Reply::new(200).json(json!({"name": "x", "tags": tags}));
            match next {
                Some(next) => reply.header("Link", format!("<{next}>; rel=\"next\"")),
                None => reply,
            }
        };
        match (request.path(), request.query("last").as_deref()) {
            ("/v2/components/circle/tags/list", _) => page(&["a"], Some(&request.target)),
            (_, None) => page(&["b", "a"], Some("/v2/components/code/tags/list?last=b")),
            (_, Some("b")) => page(&["c"], Some("?last=c")),
            _ => page(&["d"], None),
        }
    });
    let tags = repository(&server.address).tags().await.unwrap();
    let tags: Vec<_> = tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(tags, ["a", "b", "c", "d"]);
    let circle = registry(&server.address).repository("components/circle".parse().unwrap());
    let error = circle.tags().await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_without_long_poll_is_told_from_one_with() {
    let bytes = br#"{"schemaVersion":2,"manifests":[]}"#;
    let digest = Digest::sha256(bytes);
    let plain = Server::start(|_: &Request| {
        Reply::new(200)
            .header("Content-Type", "application/vnd.oci.image.index.v1+json")
            .body(*bytes)
    });
    let waiting = Server::start(|request: &Request| match request.header("prefer") {
        Some(prefer) => Reply::new(304).header("Preference-Applied", prefer),
        None => Reply::new(200),
    });
    let (tag, wait) = ("latest".parse().unwrap(), Duration::from_secs(1));
    for (server, waited) in [(&plain, false), (&waiting, true)] {
        let repository = repository(&server.address);
        let watched = repository
            .watch_manifest(&tag, Some(&digest), wait)
            .await
            .unwrap();
        assert_eq!(watched, Watched::Unchanged { waited });
    }
    let watched = repository(&plain.address)
        .watch_manifest(&tag, None, wait)
        .await
        .unwrap();
    assert!(matches!(watched, Watched::Changed(manifest) if manifest.digest == digest));
}

/// Docker's schema 1: what it was signed with stands in it, and its digest is of the rest.
#[tokio::test]
async fn a_signed_manifest_comes_as_what_it_is() {
    const SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let bytes = br#"{"schemaVersion":1,"fsLayers":[],"signatures":[]}"#;
    let server = Server::start(|_: &Request| {
        let digest = Digest::sha256(b"the rest").to_string();
        Reply::new(200)
            .header("Content-Type", SIGNED)
            .header("Docker-Content-Digest", &digest)
            .body(*bytes)
    });
    let repository = repository(&server.address);
    let manifest = repository.manifest(&"v1".parse().unwrap()).await.unwrap();
    let manifest = manifest.unwrap();
    assert_eq!(manifest.media_type, SIGNED);
    assert_eq!(manifest.digest, Digest::sha256(bytes));
}

#[tokio::test]
async fn a_pinned_key_is_the_one_that_is_trusted() {
    let certificate = include_bytes!("../fixtures/certificate.der").to_vec();
    let key = include_bytes!("../fixtures/key.der").to_vec();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.into()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let reply = b"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(reply).await.ok();
            stream.shutdown().await.ok();
        }
    });
    let pinned = |fingerprint: &str| {
        let options = Options {
            fingerprint: Some(fingerprint.parse().unwrap()),
            ..Options::default()
        };
        Registry::new(address.parse().unwrap(), options).unwrap()
    };
    let right = "SHA256:zPy7elP5hNcnQlTKNwJoZpx4ZeLHaaFEnoREiS1+pQI";
    pinned(right).ping().await.unwrap();
    let wrong = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
    let error = pinned(wrong).ping().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().contains(right) && error.to_string().contains(wrong),
        "{error}"
    );
    let https = format!("https://{address}").parse().unwrap();
    let error = Registry::new(https, Options::default())
        .unwrap()
        .ping()
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}
