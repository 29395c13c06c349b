//! Token services: what they are told, and what they are not.

use std::sync::{Arc, OnceLock};

use super::support::{
    registry_as,
    server::{Reply, Request, Server},
};
use deploy_spec::{Digest, RepositoryName};
use deployctl::{
    client::{ClientError, Credentials, Secret},
    ssh::{self, Passphrase},
};
use serde_json::json;

/// A registry whose tokens are to be had at `realm`, below its own address where that begins with
/// a slash. `token` answers there.
fn guarded(
    realm: impl Into<String>,
    token: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Server {
    let address = Arc::<OnceLock<String>>::default();
    let (known, realm) = (address.clone(), realm.into());
    let server = Server::start(move |request: &Request| {
        if request.path().starts_with("/token") {
            return token(request);
        }
        if request.header("authorization") == Some("Bearer good") {
            return Reply::new(200).json(json!({"name": "x", "tags": []}));
        }
        let realm = match realm.starts_with('/') {
            true => format!("http://{}{realm}", known.get().unwrap()),
            false => realm.clone(),
        };
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        Reply::new(401).header("WWW-Authenticate", challenge)
    });
    address.set(server.address.clone()).unwrap();
    server
}

fn key() -> Credentials {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("key");
    let mut random = [7; 32];
    random[0] = 1;
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&random);
    let key = ssh_key::PrivateKey::from(pair);
    key.write_openssh_file(&path, ssh_key::LineEnding::LF)
        .unwrap();
    Credentials::Key(ssh::open(&path, None, Passphrase::nobody()).unwrap())
}

fn field(request: &Request, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(&request.body);
    let found = pairs.find(|(found, _)| found == name);
    found.map(|(_, value)| value.into_owned())
}

async fn tags(server: &Server, credentials: Credentials) -> Result<(), ClientError> {
    let registry = registry_as(&format!("http://{}", server.address), credentials);
    let name: RepositoryName = "components/code".parse().unwrap();
    registry.repository(name).tags().await.map(drop)
}

#[tokio::test]
async fn a_signature_is_for_one_registry_and_one_is_enough() {
    let server = guarded("/token", |request| {
        if request.path() == "/token/nonce" {
            return Reply::new(200).json(json!({"nonce": "once", "expires_in": 60}));
        }
        assert_eq!(request.method, "POST");
        Reply::new(200).json(json!({"token": "good", "refresh_token": "more"}))
    });
    let registry = registry_as(&format!("http://{}", server.address), key());
    for name in ["a", "b"] {
        let name: RepositoryName = name.parse().unwrap();
        registry.repository(name).tags().await.unwrap();
    }
    let posts = server.seen("POST");
    let [signed, refreshed] = &posts[..] else {
        panic!("{} requests for tokens", posts.len());
    };
    let shown = |name| field(signed, name).unwrap();
    assert_eq!(shown("registry"), server.address);
    assert_eq!(shown("nonce"), "once");
    assert!(shown("signature").starts_with("-----BEGIN SSH SIGNATURE-----"));
    let shown = |name| field(refreshed, name).unwrap();
    assert_eq!(shown("refresh_token"), "more");
    assert_eq!(shown("scope"), "repository:b:pull");
}

#[tokio::test]
async fn nothing_is_signed_for_somebody_else() {
    let elsewhere = Server::start(|_: &Request| Reply::new(200).json(json!({"token": "good"})));
    let server = guarded(format!("http://{}/token", elsewhere.address), |_| {
        Reply::new(500)
    });
    tags(&server, key()).await.unwrap();
    let asked: Vec<String> = elsewhere
        .seen("GET")
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert_eq!(
        asked,
        ["/token?service=s&scope=repository%3Acomponents%2Fcode%3Apull"]
    );
    assert!(elsewhere.seen("POST").is_empty());
}

#[tokio::test]
async fn a_secret_is_not_sent_on() {
    let elsewhere = Server::start(|_: &Request| Reply::new(200).json(json!({"token": "good"})));
    let target = format!("http://{}/token", elsewhere.address);
    let server = guarded("/token", move |_| {
        Reply::new(307).header("Location", target.clone())
    });
    let error = tags(&server, Credentials::Refresh(Secret::new("secret")))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("307"), "{error}");
    assert!(elsewhere.seen("POST").is_empty());
}

#[tokio::test]
async fn a_mount_asks_for_both_repositories() {
    let server = guarded("/token", |_| Reply::new(200).json(json!({"token": "good"})));
    let registry = registry_as(&server.address, Credentials::Anonymous);
    let [to, from] = ["configs/x", "components/y"].map(|name| name.parse().unwrap());
    let from: RepositoryName = from;
    let mounted = registry
        .repository(to)
        .mount(&Digest::sha256(b""), Some(&from))
        .await;
    // It says 200, which is no answer to that.
    assert!(mounted.is_err());
    let asked = &server.seen("GET")[0].target;
    assert_eq!(
        asked,
        "/token?service=s&scope=repository%3Aconfigs%2Fx%3Apull%2Cpush&scope=repository%3Acomponents%2Fy%3Apull"
    );
}

#[tokio::test]
async fn a_refusal_names_the_key() {
    let server = guarded("/token", |request| match request.path() {
        "/token/nonce" => Reply::new(200).json(json!({"nonce": "once"})),
        _ => Reply::new(401)
            .json(json!({"errors": [{"code": "UNAUTHORIZED", "message": "unknown"}]})),
    });
    let credentials = key();
    let Credentials::Key(signer) = &credentials else {
        unreachable!();
    };
    let fingerprint = signer.fingerprint().to_string();
    let error = tags(&server, credentials).await.unwrap_err().to_string();
    assert!(
        error.contains(&fingerprint) && error.contains("unknown"),
        "{error}"
    );
}
