//! The token endpoint with passwords, as container clients ask it: with whatever they send, nobody
//! learns more than whether he is let in.

use std::{fs, path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use deploy_registry::{
    Identity, ServerSettings, Store,
    auth::{Gatekeeper, Role, Sources, Tokens, UsedNonces},
};
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::harness::{TestRegistry, assert_error, header};

/// What crypt(3) makes of `secret`.
pub(crate) const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
/// What it makes of 72 times `x`.
const LONG: &str = "$2y$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q";

struct Guarded {
    registry: TestRegistry,
    gatekeeper: Arc<Gatekeeper>,
    sources: Sources,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Guarded {
    async fn start(anonymous: Option<Role>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let users = format!("jane:{SECRET}:write\njoe d+e:{SECRET}\nlong:{LONG}\n");
        fs::write(&path, users).unwrap();
        let sources = Sources {
            users: Some(path.clone()),
            anonymous,
            ..Sources::default()
        };
        let tokens = Tokens::of(&Identity::generate());
        let (store, names) = (Store::memory(), Box::new(|_: &str| false));
        let nonces = UsedNonces::of(&store, false);
        let gatekeeper = Gatekeeper::new(tokens, names, nonces, &sources).unwrap();
        let gatekeeper = Arc::new(gatekeeper);
        let settings = ServerSettings {
            gatekeeper: Some(gatekeeper.clone()),
            ..ServerSettings::default()
        };
        Self {
            registry: TestRegistry::with(store, settings).await,
            gatekeeper,
            sources,
            path,
            _directory: directory,
        }
    }

    /// Asks as the `Authorization` header says.
    async fn get(&self, query: &str, authorization: Option<&str>) -> Response {
        let request = self.registry.request("GET", &format!("/token?{query}"));
        let request = match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        request.send().await.unwrap()
    }

    async fn post(&self, form: &str) -> Response {
        let request = self.registry.request("POST", "/token");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(form.to_owned()).send().await.unwrap()
    }

    /// How `/v2/` is answered.
    async fn api(&self, token: &str) -> u16 {
        let request = self.registry.request("GET", "/v2/").bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    }

    async fn metric(&self, line: &str) -> u64 {
        let text = self.registry.send("GET", "/metrics").await;
        let text = text.text().await.unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line));
        value.unwrap().trim().parse().unwrap()
    }
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

async fn json(response: Response) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "cache-control"), "no-store");
    response.json().await.unwrap()
}

/// What a token allows of, as it says itself: its middle part, by repository.
fn access(token: &Value) -> Value {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = token.as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["access"].clone()
}

#[tokio::test]
async fn a_token_is_had_for_a_password_in_every_way_that_clients_ask() {
    let guarded = Guarded::start(None).await;
    let scope = "scope=repository:a:pull,push&scope=repository:b:pull&scope=nonsense:x";
    let query = format!("service=deploy-registry&account=somebody&{scope}&offline_token=true");
    let answer = json(guarded.get(&query, Some(&basic("jane", "secret"))).await).await;
    assert_eq!(answer["token"], answer["access_token"]);
    assert_eq!(answer["expires_in"], 300);
    assert_eq!(access(&answer["token"])[0]["actions"][1], "push");
    assert_eq!(access(&answer["token"])[1]["name"], "b");
    let refresh = answer["refresh_token"].as_str().unwrap();
    assert_eq!(guarded.api(answer["token"].as_str().unwrap()).await, 200);
    assert_eq!(guarded.api(refresh).await, 401);
    // Forms, with scopes in one field and with signs that mean something in forms.
    let form = "grant_type=password&service=s&client_id=c&scope=repository%3Aa%3Apull%2Cpush+repository:b:pull";
    let form = format!("{form}&username=joe+d%2Be&password=secret");
    let answer = json(guarded.post(&form).await).await;
    assert_eq!(
        access(&answer["token"])[0]["actions"].to_string(),
        r#"["pull"]"#
    );
    assert_eq!(access(&answer["token"])[1]["name"], "b");
    assert_eq!(answer["refresh_token"], Value::Null);
    let answer = json(guarded.post(&format!("{form}&access_type=offline")).await).await;
    assert!(answer["refresh_token"].is_string());
    // With a token in place of the password, by form and under the name that clients keep it by.
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&scope=repository:a:push");
    let answer = json(guarded.post(&format!("{form}&access_type=offline")).await).await;
    assert_eq!(
        access(&answer["token"])[0]["actions"].to_string(),
        r#"["push"]"#
    );
    // The same one: it is no way to go on for ever.
    assert_eq!(answer["refresh_token"], refresh);
    let by_name = basic("<token>", refresh);
    let answer = json(guarded.get("scope=repository:a:pull", Some(&by_name)).await).await;
    assert_eq!(access(&answer["token"])[0]["name"], "a");
    assert_eq!(
        guarded
            .metric(r#"deploy_registry_logins_total{kind="password",outcome="done"}"#)
            .await,
        3
    );
    assert_eq!(
        guarded
            .metric(r#"deploy_registry_logins_total{kind="refresh",outcome="done"}"#)
            .await,
        2
    );
}

#[tokio::test]
async fn whoever_is_not_let_in_learns_nothing() {
    let guarded = Guarded::start(None).await;
    let basics = [
        basic("jane", "Secret"),
        basic("nobody", "secret"),
        basic("", "secret"),
        basic("jane", ""),
        basic("jane", "secret\0"),
        basic("<token>", "secret"),
        basic("long", &"x".repeat(73)),
        "Basic %%%".to_owned(),
        format!("Basic {}", STANDARD.encode("jane")),
        format!("Basic {}", STANDARD.encode(b"jane:\xff")),
        // As clients without credentials ask.
        basic("", ""),
        "Bearer nonsense".to_owned(),
    ];
    let mut bodies = Vec::new();
    for authorization in &basics {
        // Whoever is let in between is forgiven most of them.
        let right = guarded.get("", Some(&basic("jane", "secret"))).await;
        assert_eq!(right.status(), StatusCode::OK);
        let response = guarded
            .get("scope=repository:a:pull", Some(authorization))
            .await;
        let challenge = header(&response, "www-authenticate").to_owned();
        assert_eq!(challenge, "Basic realm=\"deploy-registry\"");
        assert_eq!(header(&response, "cache-control"), "no-store");
        assert_eq!(
            response.status(),
            StatusCode::UNAUTHORIZED,
            "{authorization}"
        );
        bodies.push(response.text().await.unwrap());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    for form in ["grant_type=implicit", ""] {
        assert_error(guarded.post(form).await, 400, "UNSUPPORTED").await;
    }
    let form = "grant_type=password&username=jane&password=wrong";
    assert_error(guarded.post(form).await, 401, "UNAUTHORIZED").await;
    assert_eq!(guarded.api("nonsense").await, 401);
}

#[tokio::test]
async fn whoever_guesses_is_told_to_wait_and_tokens_go_on() {
    let guarded = Guarded::start(Some(Role::Read)).await;
    let right = basic("jane", "secret");
    let answer = json(guarded.get("offline_token=true", Some(&right)).await).await;
    let wrong = basic("jane", "guess");
    // All at once, as somebody does who is in a hurry.
    let guesses = (0..40).map(|_| guarded.get("", Some(&wrong)));
    let answers = futures::future::join_all(guesses).await;
    let (refused, held_off): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|answer| answer.status() == 401);
    assert!(
        refused.len() >= 4 && held_off.len() >= 20,
        "{}",
        refused.len()
    );
    for response in held_off {
        let seconds: u64 = header(&response, "retry-after").parse().unwrap();
        assert!((1..=30).contains(&seconds), "{seconds}");
        assert_error(response, 429, "TOOMANYREQUESTS").await;
    }
    let response = guarded.get("", Some(&right)).await;
    assert_error(response, 429, "TOOMANYREQUESTS").await;
    assert_eq!(guarded.api(answer["token"].as_str().unwrap()).await, 200);
    let refresh = answer["refresh_token"].as_str().unwrap();
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    json(guarded.post(&form).await).await;
    json(guarded.get("", None).await).await;
    let held_off = r#"deploy_registry_logins_total{kind="password",outcome="held_off"}"#;
    assert!(guarded.metric(held_off).await >= 21);
}

#[tokio::test]
async fn a_password_that_is_changed_ends_what_it_began() {
    let guarded = Guarded::start(None).await;
    let right = basic("jane", "secret");
    let answer = json(guarded.get("offline_token=true", Some(&right)).await).await;
    fs::write(&guarded.path, format!("jane:{LONG}:write")).unwrap();
    guarded.gatekeeper.reload(&guarded.sources).unwrap();
    assert_eq!(guarded.api(answer["token"].as_str().unwrap()).await, 401);
    let refresh = answer["refresh_token"].as_str().unwrap();
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    assert_error(guarded.post(&form).await, 401, "UNAUTHORIZED").await;
    let response = guarded.get("", Some(&right)).await;
    assert_error(response, 401, "UNAUTHORIZED").await;
    json(guarded.get("", Some(&basic("jane", &"x".repeat(72)))).await).await;
}

#[tokio::test]
async fn there_is_no_token_where_everybody_may_do_everything() {
    let registry = TestRegistry::memory().await;
    for (method, path) in [
        ("GET", "/token"),
        ("POST", "/token"),
        ("GET", "/token/nonce"),
    ] {
        let response = registry.send(method, path).await;
        assert_error(response, 404, "UNSUPPORTED").await;
    }
}
