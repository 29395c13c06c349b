//! What is written down of those whom a guarded registry knows, and of those whom it refuses.

use std::{fs, sync::Arc};

use deploy_registry::{
    Audit, Identity, ServerSettings, Store,
    auth::{Gatekeeper, Proven, Role, Sources, Subject, Tokens, UsedNonces},
};
use deploy_spec::Digest;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    harness::{TestRegistry, assert_error},
    logins::SECRET,
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q";
const FINGERPRINT: &str = "SHA256:FHsTyFHNmvNpw4o7+rp+M1yqMyBF8vXSBRkZtkQ0RKY";

struct Guarded {
    registry: TestRegistry,
    gatekeeper: Arc<Gatekeeper>,
    _directory: tempfile::TempDir,
}

impl Guarded {
    /// The key, narrowed by these options, and a user who reads, both of whom somebody knows.
    async fn start(store: Store, options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            Some(path)
        };
        let sources = Sources {
            operators: write("operators", format!("{options} {KEY} jane@desk\n")),
            users: write("users", format!("joe:{SECRET}\n")),
            anonymous: Some(Role::Read),
            ..Sources::default()
        };
        let tokens = Tokens::of(&Identity::generate());
        let names = Box::new(|_: &str| false);
        let nonces = UsedNonces::of(&store, false);
        let gatekeeper = Gatekeeper::new(tokens, names, nonces, &sources).unwrap();
        let gatekeeper = Arc::new(gatekeeper);
        let settings = ServerSettings {
            gatekeeper: Some(gatekeeper.clone()),
            audit: Audit::Kept,
            ..ServerSettings::default()
        };
        Self {
            registry: TestRegistry::with(store, settings).await,
            gatekeeper,
            _directory: directory,
        }
    }

    /// A token of the key's for this.
    fn token(&self, scopes: &str) -> String {
        let jane = Proven::from(Subject::Key(FINGERPRINT.parse().unwrap()));
        let scopes = scopes.split(' ').map(|scope| scope.parse().unwrap());
        let scopes: Vec<_> = scopes.collect();
        let token = self.gatekeeper.token(&jane, &scopes, Timestamp::now());
        token.unwrap().0
    }

    async fn send(&self, method: &str, path: &str, token: Option<&str>) -> u16 {
        let mut request = self.registry.request(method, path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap().status().as_u16()
    }

    /// Lines of which some part is of interest.
    async fn lines(&self, part: impl Fn(&Value) -> Value) -> Vec<Value> {
        let token = self.token("registry:audit:*");
        let request = self.registry.request("GET", "/v2/_deploytools/audit");
        let response = request.bearer_auth(token).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let page: Value = response.json().await.unwrap();
        page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(part)
            .collect()
    }
}

#[tokio::test]
async fn lines_say_whose_key_it_was() {
    let guarded = Guarded::start(Store::memory(), "").await;
    let token = guarded.token("repository:a:pull,push,delete");
    let digest = Digest::sha256(b"x");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let request = guarded.registry.request("POST", &path).bearer_auth(&token);
    let response = request.body("x").send().await.unwrap();
    assert_eq!(response.status(), 201);
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(guarded.send("DELETE", &path, Some(&token)).await, 202);
    let who = guarded.lines(|line| json!([line["action"], line["actor"]]));
    let jane = json!({ "kind": "key", "name": FINGERPRINT, "comment": "jane@desk" });
    let expected = [json!(["blob.put", jane]), json!(["blob.delete", jane])];
    assert_eq!(who.await, expected);
}

#[tokio::test]
async fn whoever_is_refused_has_a_line_that_says_why() {
    let guarded = Guarded::start(Store::memory(), "").await;
    let other = guarded.token("repository:b:pull,push,delete");
    let path = "/v2/a/manifests/v1";
    assert_eq!(guarded.send("DELETE", path, Some(&other)).await, 401);
    assert_eq!(guarded.send("GET", path, Some("tampered")).await, 401);
    let lines = guarded.lines(|line| {
        let parts = [
            "action",
            "actor",
            "asked",
            "repository",
            "reference",
            "status",
        ];
        parts.iter().map(|part| line[part].clone()).collect()
    });
    let jane = json!({ "kind": "key", "name": FINGERPRINT, "comment": "jane@desk" });
    let nobody = json!({ "kind": "anonymous" });
    let expected = [
        json!(["refused", jane, "DELETE /v2/a/manifests/v1", "a", "v1", 401]),
        json!(["refused", nobody, "GET /v2/a/manifests/v1", "a", "v1", 401]),
    ];
    assert_eq!(lines.await, expected);
    for token in [None, Some(other.as_str())] {
        let status = guarded.send("GET", "/v2/_deploytools/audit", token).await;
        assert_eq!(status, 401);
    }
}

/// Clients try first without, and are told where tokens are to be had.
#[tokio::test]
async fn whoever_comes_back_with_a_token_was_not_refused_and_whoever_does_not_was() {
    let store = Store::memory();
    let guarded = Guarded::start(store.clone(), "").await;
    let begin = |repository: &str| format!("/v2/{repository}/blobs/uploads/");
    assert_eq!(guarded.send("POST", &begin("a"), None).await, 401);
    assert_eq!(guarded.send("POST", &begin("b"), None).await, 401);
    assert_eq!(guarded.send("GET", "/v2/", None).await, 401);
    let token = guarded.token("repository:a:pull,push");
    let status = guarded.send("POST", &begin("a"), Some(&token)).await;
    assert_eq!(status, 202);
    // At its end, nobody is waited for.
    let Guarded { registry, .. } = guarded;
    registry.stop().await.unwrap();
    let guarded = Guarded::start(store, "").await;
    let asked = guarded.lines(|line| json!([line["action"], line["asked"], line["status"]]));
    let expected = [json!(["refused", "POST /v2/b/blobs/uploads/", 401])];
    assert_eq!(asked.await, expected);
}

#[tokio::test]
async fn logins_have_lines_and_guesses_are_counted() {
    let guarded = Guarded::start(Store::memory(), "").await;
    let login = async |name: &str, password: &str| {
        let request = guarded.registry.request("GET", "/token");
        let request = request.basic_auth(name, Some(password));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(login("joe", "secret").await, 200);
    assert_eq!(login("mallory\u{1b}", "guess").await, 401);
    let lines = guarded.lines(|line| {
        let parts = ["action", "actor", "asked", "status", "reason"];
        parts.iter().map(|part| line[part].clone()).collect()
    });
    let lines = lines.await;
    let joe = json!({ "kind": "user", "name": "joe" });
    assert_eq!(lines[0], json!(["login", joe, null, null, null]));
    let refused = json!(["refused", { "kind": "anonymous" }, "GET /token", 401]);
    assert_eq!(
        lines[1].as_array().unwrap()[..4],
        refused.as_array().unwrap()[..]
    );
    let reason = lines[1][4].as_str().unwrap();
    assert!(
        reason.ends_with("says that he is user:mallory\\u{1b}"),
        "{reason}"
    );
    assert!(!reason.contains("guess"), "{reason}");
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn the_log_is_for_those_who_may_write_everywhere() {
    let guarded = Guarded::start(Store::memory(), "repository=\"a\"").await;
    let token = guarded.token("registry:audit:* repository:a:pull");
    let request = guarded.registry.request("GET", "/v2/_deploytools/audit");
    let response = request.bearer_auth(token).send().await.unwrap();
    assert_error(response, 401, "UNAUTHORIZED").await;
}
