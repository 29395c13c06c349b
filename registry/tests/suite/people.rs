//! A program that knows people: operators and services by key, users by password; and how each of them
//! comes by a token.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use deploy_registry::{
    Identity,
    auth::{Proven, Subject, Tokens},
};
use deploy_spec::{
    Fingerprint,
    login::{GRANT_TYPE, NAMESPACE, Statement},
};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

use crate::{logins::SECRET, program::Process};

/// Where a narrowed key may do something.
pub(crate) const INSIDE: &str = "configs";
/// Where it may not.
pub(crate) const OUTSIDE: &str = "other";

/// How somebody says who he is.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// Not at all.
    Nobody,
    /// With the key of this seed.
    Key(u8),
    /// With the password that all have.
    User(&'static str),
    /// With a token that he has already, and which is of no use.
    Token(String),
}

/// The keys' seeds.
pub(crate) const OPERATOR: Credential = Credential::Key(1);
pub(crate) const SERVICE: Credential = Credential::Key(2);
pub(crate) const NARROWED: Credential = Credential::Key(3);

fn private_key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// Returns the line of the key of this seed in a file of keys.
pub(crate) fn line(seed: u8) -> String {
    private_key(seed).public_key().to_openssh().unwrap()
}

/// Returns the form of somebody who signs, with the key of this seed, that he wants these scopes of a
/// registry on this occasion.
pub(crate) fn signed(
    registry: &Fingerprint,
    nonce: &str,
    seed: u8,
    scope: &str,
) -> Vec<(&'static str, String)> {
    let registry = registry.to_string();
    let statement = Statement {
        service: "deploy-registry",
        registry: &registry,
        scope,
        time: Timestamp::now(),
        nonce,
    };
    let text = statement.text().unwrap();
    let signature = private_key(seed).sign(NAMESPACE, HashAlg::Sha512, text.as_bytes());
    let signature = signature.unwrap().to_pem(LineEnding::LF).unwrap();
    vec![
        ("grant_type", GRANT_TYPE.to_owned()),
        ("service", statement.service.to_owned()),
        ("registry", registry.clone()),
        ("time", statement.time.as_second().to_string()),
        ("nonce", nonce.to_owned()),
        ("signature", signature),
    ]
}

/// The program, with everybody in its files.
pub(crate) struct Guarded {
    pub(crate) process: Process,
    pub(crate) client: Client,
    pub(crate) identity: Identity,
    host_key: String,
    _directory: tempfile::TempDir,
}

impl Guarded {
    /// Starts it with these flags more.
    pub(crate) fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let narrowed = format!("repository=\"{INSIDE}/*\" {} narrowed", line(3));
        let operators = write("operators", format!("{} operator\n{narrowed}\n", line(1)));
        let services = write("services", format!("{} service\n", line(2)));
        let users = write("users", format!("reader:{SECRET}\nwriter:{SECRET}:write\n"));
        let host_key = directory.path().join("host_key");
        let host_key = host_key.to_str().unwrap();
        let usual = ["-addr", "127.0.0.1:0", "-memory", "-host-key", host_key];
        let people = [
            "-opauth",
            &operators,
            "-srvauth",
            &services,
            "-htpasswd",
            &users,
        ];
        let process = Process::serve(&[&usual[..], &people, more].concat());
        Self {
            process,
            client: Client::builder().no_proxy().build().unwrap(),
            identity: Identity::open(Path::new(host_key)).unwrap().unwrap(),
            host_key: host_key.to_owned(),
            _directory: directory,
        }
    }

    /// Returns the registry's key in PEM.
    pub(crate) fn private_key(&self) -> String {
        fs::read_to_string(&self.host_key).unwrap()
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}{path}", self.process.url);
        self.client.request(method, url)
    }

    /// Asks for a token of these scopes by POST.
    pub(crate) async fn post_token(&self, credential: &Credential, scope: &str) -> Response {
        let fields = match credential {
            Credential::Nobody => vec![("grant_type", "password".to_owned())],
            Credential::User(name) => vec![
                ("grant_type", "password".to_owned()),
                ("username", (*name).to_owned()),
                ("password", "secret".to_owned()),
            ],
            Credential::Token(token) => vec![
                ("grant_type", "refresh_token".to_owned()),
                ("refresh_token", token.clone()),
            ],
            Credential::Key(seed) => self.signed(*seed, scope).await,
        };
        let fields = fields.iter().map(|(name, value)| (*name, value.as_str()));
        let fields = fields.chain([("scope", scope), ("access_type", "offline")]);
        let encoded = form(&fields.collect::<Vec<_>>());
        let request = self.request("POST", "/token").body(encoded);
        request.send().await.unwrap()
    }

    /// Returns the answer to somebody who wants a token for more tokens too.
    pub(crate) async fn offline(&self, credential: &Credential, scope: &str) -> Value {
        let response = self.post_token(credential, scope).await;
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// Asks for one by GET: with name and password, or whatever else he has.
    pub(crate) async fn get_token(&self, credential: &Credential, scope: &str) -> Response {
        let encoded = form(&[("scope", scope)]);
        let request = self.request("GET", &format!("/token?{encoded}"));
        let request = match credential {
            Credential::User(name) => {
                let basic = STANDARD.encode(format!("{name}:secret"));
                request.header("authorization", format!("Basic {basic}"))
            }
            Credential::Token(token) => request.bearer_auth(token),
            Credential::Nobody | Credential::Key(_) => request,
        };
        request.send().await.unwrap()
    }

    /// Returns the form of somebody who signs that he wants these scopes.
    async fn signed(&self, seed: u8, scope: &str) -> Vec<(&'static str, String)> {
        let nonce = self.request("GET", "/token/nonce").send().await.unwrap();
        let nonce: Value = nonce.json().await.unwrap();
        let registry = self.identity.fingerprint();
        signed(&registry, nonce["nonce"].as_str().unwrap(), seed, scope)
    }

    /// Returns a token for requests, of him who has one, or may do anything at all.
    pub(crate) async fn token(&self, credential: &Credential, scope: &str) -> Option<String> {
        match credential {
            Credential::Nobody => None,
            Credential::Token(token) => Some(token.clone()),
            credential => {
                let response = self.post_token(credential, scope).await;
                assert_eq!(response.status(), 200, "{credential:?}");
                let answer: Value = response.json().await.unwrap();
                Some(answer["token"].as_str().unwrap().to_owned())
            }
        }
    }

    /// Returns a token of the operator for these scopes, as made so long ago for five minutes.
    pub(crate) fn old_token(&self, scope: &str, seconds: i64) -> String {
        let key = private_key(1).public_key().to_bytes().unwrap();
        let operator: Proven = Subject::Key(Fingerprint::of_ssh_key(&key)).into();
        let scopes: Vec<_> = scope
            .split(' ')
            .map(|scope| scope.parse().unwrap())
            .collect();
        let then = Timestamp::now() - SignedDuration::from_secs(seconds);
        let life = std::time::Duration::from_secs(300);
        Tokens::of(&self.identity).access(&operator, &scopes, then, life)
    }
}

/// Returns a form as browsers send it.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields).finish()
}

/// Changes the signature of a token in its middle.
pub(crate) fn tampered(token: &str) -> String {
    let mut bytes = token.to_owned().into_bytes();
    let at = bytes.len() - 20;
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}
