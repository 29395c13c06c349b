//! Logins by key: each signature is good once, whichever process of a store it is shown to.

use std::{fs, io::ErrorKind, sync::Arc};

use deploy_registry::{
    Audit, Identity, ServerSettings, Store,
    auth::{Gatekeeper, Sources, Tokens, UsedNonces},
};
use object_store::{ObjectStore as _, memory::InMemory};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    backends::everywhere,
    faults::Faulty,
    harness::{TestRegistry, assert_error, header},
    people::{form, line, signed},
};

const JANE: u8 = 1;

/// What all processes of a registry share beside its store: the key, and the file of operators.
struct Shared {
    directory: tempfile::TempDir,
    sources: Sources,
}

impl Shared {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let operators = directory.path().join("operators");
        fs::write(&operators, format!("{} jane\n", line(JANE))).unwrap();
        let sources = Sources {
            operators: Some(operators),
            ..Sources::default()
        };
        Self { directory, sources }
    }

    fn identity(&self) -> Identity {
        Identity::open_or_create(&self.directory.path().join("host_key")).unwrap()
    }

    /// Starts a process on this store.
    async fn serve(&self, store: Store, read_only: bool) -> TestRegistry {
        let identity = self.identity();
        let fingerprint = identity.fingerprint();
        let names = Box::new(move |name: &str| name.parse() == Ok(fingerprint));
        let nonces = UsedNonces::of(&store, read_only);
        let gatekeeper = Gatekeeper::new(Tokens::of(&identity), names, nonces, &self.sources);
        let settings = ServerSettings {
            gatekeeper: Some(Arc::new(gatekeeper.unwrap())),
            audit: Audit::Kept,
            ..ServerSettings::default()
        };
        TestRegistry::with(store, settings).await
    }

    /// Returns what jane sends for a token, on an occasion that this process gave out.
    async fn login(&self, registry: &TestRegistry, scope: &str) -> String {
        let nonce: Value = registry
            .send("GET", "/token/nonce")
            .await
            .json()
            .await
            .unwrap();
        let nonce = nonce["nonce"].as_str().unwrap();
        let fields = signed(&self.identity().fingerprint(), nonce, JANE, scope);
        let fields = fields.iter().map(|(name, value)| (*name, value.as_str()));
        form(&fields.chain([("scope", scope)]).collect::<Vec<_>>())
    }
}

async fn post(registry: &TestRegistry, login: &str) -> Response {
    let request = registry.request("POST", "/token").body(login.to_owned());
    request.send().await.unwrap()
}

async fn token(registry: &TestRegistry, login: &str) -> String {
    let answer: Value = post(registry, login).await.json().await.unwrap();
    answer["token"].as_str().unwrap().to_owned()
}

async fn counted(registry: &TestRegistry, outcome: &str) -> u64 {
    let metrics = registry.send("GET", "/metrics").await.text().await.unwrap();
    let name = format!("deploy_registry_logins_total{{kind=\"key\",outcome=\"{outcome}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_login_is_good_once_whichever_replica_it_is_shown_to() {
    for place in everywhere("a_login_is_good_once_whichever_replica_it_is_shown_to", 3).await {
        let shared = Shared::new();
        let mut replicas = Vec::new();
        // Of a directory there is one store, which several serve here.
        for store in place.stores.iter().cycle().take(3) {
            replicas.push(shared.serve(store.clone(), false).await);
        }
        let login = shared.login(&replicas[0], "registry:catalog:*").await;
        let shown = replicas.iter().map(|replica| post(replica, &login));
        let answers = futures::future::join_all(shown).await;
        let statuses = answers.iter().map(Response::status);
        let mut statuses: Vec<_> = statuses.collect();
        statuses.sort_unstable();
        let once = [200, 401, 401].map(|status| StatusCode::from_u16(status).unwrap());
        assert_eq!(statuses, once);
        for replica in &replicas {
            assert_error(post(replica, &login).await, 401, "UNAUTHORIZED").await;
        }
        let (mut done, mut failed) = (0, 0);
        for replica in &replicas {
            done += counted(replica, "done").await;
            failed += counted(replica, "failed").await;
        }
        assert_eq!((done, failed), (1, 5));
        let login = shared.login(&replicas[1], "registry:audit:*").await;
        let audit = replicas[0].request("GET", "/v2/_deploytools/audit");
        let audit = audit.bearer_auth(token(&replicas[2], &login).await);
        let page: Value = audit.send().await.unwrap().json().await.unwrap();
        let entries = page["entries"].as_array().unwrap();
        let refused = entries.iter().find(|entry| entry["action"] == "refused");
        let refused = refused.unwrap();
        assert_eq!(refused["actor"], json!({ "kind": "anonymous" }));
        let reason = refused["reason"].as_str().unwrap();
        assert!(reason.contains("nonce was used before"), "{reason}");
        assert!(reason.contains("SHA256:"), "{reason}");
    }
}

#[tokio::test]
async fn a_login_stays_used_when_the_process_is_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let shared = Shared::new();
    let registry = shared
        .serve(Store::open(directory.path()).unwrap(), false)
        .await;
    let login = shared.login(&registry, "registry:catalog:*").await;
    assert_eq!(post(&registry, &login).await.status(), 200);
    registry.stop().await.unwrap();
    let registry = shared
        .serve(Store::open(directory.path()).unwrap(), false)
        .await;
    assert_error(post(&registry, &login).await, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn where_nothing_is_written_a_process_remembers() {
    let shared = Shared::new();
    let objects = InMemory::new();
    let registry = shared.serve(Store::multipart(objects.clone()), true).await;
    let login = shared.login(&registry, "registry:catalog:*").await;
    assert_eq!(post(&registry, &login).await.status(), 200);
    assert_error(post(&registry, &login).await, 401, "UNAUTHORIZED").await;
    let nonces = objects.list_with_delimiter(Some(&"nonces".into())).await;
    assert!(nonces.unwrap().objects.is_empty());
}

#[tokio::test]
async fn a_login_that_cannot_be_noted_is_put_off() {
    let shared = Shared::new();
    let faulty = Faulty::new(InMemory::new(), 0, false, ErrorKind::ConnectionReset);
    let registry = shared.serve(Store::multipart(faulty), false).await;
    for tried in 1..=20 {
        let login = shared.login(&registry, "registry:catalog:*").await;
        let answer = post(&registry, &login).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(header(&answer, "retry-after"), "1");
        assert_eq!(counted(&registry, "unnoted").await, tried);
    }
    // Nor is it a failure of his.
    assert_eq!(counted(&registry, "failed").await, 0);
}
