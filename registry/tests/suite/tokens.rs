//! Tokens that are none, and what one that is one is good for.

use std::{fs, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use deploy_registry::{
    Identity,
    auth::{Proven, Tokens},
};
use deploy_spec::Digest;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};

use crate::{
    harness::{INDEX, assert_error, header},
    people::{Credential, Guarded, INSIDE, NARROWED, OPERATOR, OUTSIDE, SERVICE, tampered},
    program::{PATIENCE, Process, refused},
};

const SCOPE: &str = "repository:a:pull,push,delete registry:catalog:*";

fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[tokio::test]
async fn tokens_that_this_registry_did_not_make_for_this_are_none() {
    let guarded = Guarded::start(&[]);
    let good = guarded.token(&OPERATOR, SCOPE).await.unwrap();
    let claims = claims(&good);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let [_, middle, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("{good}")
    };
    // The registry's own public key as the secret of both, in each form that it is seen in.
    let private = guarded.private_key();
    let private = p256::SecretKey::from_pkcs8_pem(&private).unwrap();
    let public = private.public_key();
    let pem = public.to_public_key_pem(LineEnding::LF).unwrap();
    let der = public.to_public_key_der().unwrap();
    let symmetric = |secret: &[u8]| {
        let header = Header::new(Algorithm::HS256);
        encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    // Right, but for one thing.
    let own = EncodingKey::from_ec_der(private.to_pkcs8_der().unwrap().as_bytes());
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        encode(&Header::new(Algorithm::ES256), &claims, &own).unwrap()
    };
    let mut widened = claims.clone();
    widened["access"][0]["name"] = "b".into();
    let other = Tokens::of(&Identity::generate());
    let life = Duration::from_secs(300);
    let nonce = guarded.request("GET", "/token/nonce").send().await.unwrap();
    let nonce: Value = nonce.json().await.unwrap();
    let offline = guarded.offline(&OPERATOR, SCOPE).await;
    let refresh = offline["refresh_token"].as_str().unwrap();
    let bad = [
        ("expired", guarded.old_token(SCOPE, 400)),
        ("tampered", tampered(&good)),
        (
            "widened",
            format!(
                "{}.{}.{signature}",
                part(&json!({"alg":"ES256","typ":"JWT"})),
                part(&widened)
            ),
        ),
        (
            "unsigned",
            format!("{}.{middle}.", part(&json!({"alg":"none","typ":"JWT"}))),
        ),
        (
            "unsigned but for a signature",
            format!("{}.{middle}.{signature}", part(&json!({"alg":"none"}))),
        ),
        ("signed with the public key, PEM", symmetric(pem.as_bytes())),
        ("signed with the public key, DER", symmetric(der.as_bytes())),
        ("signed with its point", symmetric(&public.to_sec1_bytes())),
        ("with a key of its own", {
            let jwk = json!({"alg":"ES256","typ":"JWT","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}});
            format!("{}.{middle}.{signature}", part(&jwk))
        }),
        (
            "of another registry",
            other.access(&Proven::anonymous(), &[], Timestamp::now(), life),
        ),
        ("from another issuer", with("iss", "somebody".into())),
        ("for another audience", with("aud", "somebody".into())),
        ("for another purpose", with("kind", "other".into())),
        ("of nobody", with("sub", "somebody".into())),
        ("of an unknown user", with("sub", "user:nobody".into())),
        (
            "of a user, without his password",
            with("sub", "user:writer".into()),
        ),
        ("without an end", with("exp", Value::Null)),
        ("a refresh token", refresh.to_owned()),
        ("a nonce", nonce["nonce"].as_str().unwrap().to_owned()),
        ("cut off", good[..good.len() - 10].to_owned()),
        ("garbage", "x".repeat(1000)),
    ];
    let mut answers = Vec::new();
    for (what, token) in bad {
        for path in ["/v2/", "/v2/a/tags/list"] {
            let response = guarded
                .request("GET", path)
                .bearer_auth(&token)
                .send()
                .await
                .unwrap();
            let challenge = header(&response, "www-authenticate").to_owned();
            assert!(
                challenge.ends_with(",error=\"invalid_token\""),
                "{what}: {challenge}"
            );
            assert_eq!(response.status(), 401, "{what}");
            answers.push(response.text().await.unwrap());
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    // The claims as such are good.
    let same = with("iss", claims["iss"].clone());
    for token in [good, same] {
        let response = guarded
            .request("GET", "/v2/")
            .bearer_auth(token)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test]
async fn a_token_is_for_what_was_asked_for_and_may_be_done() {
    let guarded = Guarded::start(&[]);
    let cases = [
        (
            OPERATOR,
            "repository:a:pull repository:a:push",
            json!([["a", "pull"], ["a", "push"]]),
        ),
        (
            OPERATOR,
            "repository:a:*",
            json!([["a", "pull,push,delete"]]),
        ),
        (
            OPERATOR,
            "registry:catalog:*",
            json!([["catalog", "pull,push,delete"]]),
        ),
        (OPERATOR, "", json!([])),
        (
            OPERATOR,
            "nonsense repository:A:pull x:y:z repository:a:fly",
            json!([]),
        ),
        (
            SERVICE,
            "repository:a:pull,push,delete",
            json!([["a", "pull"]]),
        ),
        (
            SERVICE,
            "repository:a:push repository:b:pull",
            json!([["b", "pull"]]),
        ),
        (
            NARROWED,
            "repository:configs/a:pull,push repository:other/a:pull,push registry:catalog:*",
            json!([["configs/a", "pull,push"]]),
        ),
        (
            Credential::User("reader"),
            "repository:a:pull,push",
            json!([["a", "pull"]]),
        ),
        (
            Credential::User("writer"),
            "repository:a:pull,push",
            json!([["a", "pull,push"]]),
        ),
    ];
    for (credential, scope, expected) in cases {
        let token = guarded.token(&credential, scope).await.unwrap();
        let found = claims(&token)["access"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let names = |actions: &Value| {
            let names = actions.as_array().unwrap().iter();
            names
                .map(|name| name.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join(",")
        };
        let found = found
            .iter()
            .map(|one| json!([one["name"], names(&one["actions"])]));
        assert_eq!(Value::from_iter(found), expected, "{credential:?} {scope}");
        // Whatever it is for, it is one.
        let response = guarded
            .request("GET", "/v2/")
            .bearer_auth(token)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
    }
    // Clients that delete ask for this.
    let token = guarded
        .token(&OPERATOR, "repository:a:pull,push")
        .await
        .unwrap();
    let blob = Digest::sha256(b"blob");
    let path = format!("/v2/a/blobs/uploads/?digest={blob}");
    let request = guarded
        .request("POST", &path)
        .bearer_auth(&token)
        .body("blob");
    assert_eq!(request.send().await.unwrap().status(), 201);
    let path = format!("/v2/a/blobs/{blob}");
    let pull = guarded.token(&OPERATOR, "repository:a:pull").await.unwrap();
    let response = guarded
        .request("DELETE", &path)
        .bearer_auth(pull)
        .send()
        .await
        .unwrap();
    let challenge = header(&response, "www-authenticate").to_owned();
    assert!(
        challenge.contains("repository:a:delete\",error=\"insufficient_scope\""),
        "{challenge}"
    );
    let response = guarded
        .request("DELETE", &path)
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
}

#[tokio::test]
async fn a_mount_tells_nothing_of_what_one_may_not_read() {
    let guarded = Guarded::start(&[]);
    let [inside, outside] = [INSIDE, OUTSIDE].map(|place| format!("{place}/a"));
    let scope = format!("repository:{inside}:pull,push repository:{outside}:pull,push");
    let operator = guarded.token(&OPERATOR, &scope).await.unwrap();
    let blob = Digest::sha256(b"blob");
    let path = format!("/v2/{outside}/blobs/uploads/?digest={blob}");
    let request = guarded
        .request("POST", &path)
        .bearer_auth(&operator)
        .body("blob");
    assert_eq!(request.send().await.unwrap().status(), 201);
    let narrowed = guarded.token(&NARROWED, &scope).await.unwrap();
    let missing = Digest::sha256(b"nobody has it");
    let (known, unknown) = (format!("&from={outside}"), format!("&from={OUTSIDE}/b"));
    for (digest, from) in [
        (&blob, &known),
        (&missing, &known),
        (&blob, &unknown),
        (&blob, &String::new()),
    ] {
        let path = format!("/v2/{inside}/blobs/uploads/?mount={digest}{from}");
        let response = guarded
            .request("POST", &path)
            .bearer_auth(&narrowed)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 202, "{path}");
        assert!(header(&response, "location").starts_with(&format!("/v2/{inside}/blobs/uploads/")));
    }
    // Nor does a manifest that names it.
    let manifest = crate::harness::image(&blob, &[]).to_string();
    let request = guarded
        .request("PUT", &format!("/v2/{inside}/manifests/v1"))
        .bearer_auth(&narrowed);
    let request = request
        .header("content-type", crate::harness::MANIFEST)
        .body(manifest);
    assert_error(request.send().await.unwrap(), 400, "MANIFEST_BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn a_mount_with_less_than_one_may_have_is_told_what_to_ask_for() {
    let guarded = Guarded::start(&[]);
    let [to, from] = ["to", "from"].map(|name| format!("{INSIDE}/{name}"));
    let push = |name: &str| format!("repository:{name}:pull,push");
    let blob = Digest::sha256(b"blob");
    let token = guarded.token(&OPERATOR, &push(&from)).await.unwrap();
    let path = format!("/v2/{from}/blobs/uploads/?digest={blob}");
    let request = guarded.request("POST", &path).bearer_auth(&token);
    assert_eq!(request.body("blob").send().await.unwrap().status(), 201);
    let token = guarded.token(&OPERATOR, &push(&to)).await.unwrap();
    for (query, needed) in [
        (format!("&from={from}"), format!("repository:{from}:pull")),
        (String::new(), "registry:blobs:*".to_owned()),
    ] {
        let path = format!("/v2/{to}/blobs/uploads/?mount={blob}{query}");
        let mount = |token: &str| {
            let request = guarded.request("POST", &path).bearer_auth(token);
            async move { request.send().await.unwrap() }
        };
        let refused = mount(&token).await;
        let scopes = format!("repository:{to}:push {needed}");
        let challenge = header(&refused, "www-authenticate");
        let expected = format!(r#",scope="{scopes}",error="insufficient_scope""#);
        assert!(challenge.ends_with(&expected), "{challenge}");
        assert_error(refused, 401, "UNAUTHORIZED").await;
        let token = guarded.token(&OPERATOR, &scopes).await.unwrap();
        assert_eq!(mount(&token).await.status(), 201, "{path}");
    }
}

#[tokio::test]
async fn scopes_in_one_parameter_may_have_plus_signs_between_them() {
    let guarded = Guarded::start(&[]);
    let path = "/token?service=deploy-registry&scope=registry:catalog:*+repository:a:push";
    let request = guarded.request("GET", path);
    let request = request.basic_auth("writer", Some("secret"));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let token = answer["token"].as_str().unwrap();
    for (method, path, status) in [
        ("GET", "/v2/_catalog", 200),
        ("POST", "/v2/a/blobs/uploads/", 202),
    ] {
        let request = guarded.request(method, path).bearer_auth(token);
        assert_eq!(request.send().await.unwrap().status(), status, "{path}");
    }
}

#[tokio::test]
async fn a_token_is_verified_without_asking_the_store() {
    let guarded = Guarded::start(&["-anonymous", "read"]);
    let operator = guarded.token(&OPERATOR, SCOPE).await.unwrap();
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
    let path = "/v2/a/manifests/v1";
    let push = guarded.request("PUT", path).bearer_auth(operator);
    let push = push.header("content-type", INDEX).body(index);
    assert_eq!(push.send().await.unwrap().status(), 201);
    // What reads ask of it; writes are of the audit log, which comes later.
    let asked = || async {
        let metrics = guarded.request("GET", "/metrics").send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let counted = ["get", "head", "list"].map(|operation| {
            format!("deploy_registry_store_operations_total{{operation=\"{operation}\"")
        });
        let is_counted = |line: &&str| counted.iter().any(|start| line.starts_with(start));
        let counts = metrics.lines().filter(is_counted).map(|line| {
            let (_, count) = line.rsplit_once(' ').unwrap();
            count.parse::<u64>().unwrap()
        });
        counts.sum::<u64>()
    };
    let mut costs = Vec::new();
    for credential in [OPERATOR, SERVICE, Credential::User("reader")] {
        let before = asked().await;
        for _ in 0..3 {
            let token = guarded.token(&credential, SCOPE).await.unwrap();
            let request = guarded.request("GET", path).bearer_auth(token);
            assert_eq!(request.send().await.unwrap().status(), 200);
        }
        costs.push(asked().await - before);
    }
    let before = asked().await;
    for _ in 0..3 {
        let request = guarded.request("GET", path).send().await.unwrap();
        assert_eq!(request.status(), 200);
    }
    let without = asked().await - before;
    assert_eq!(costs, [without; 3]);
}

#[tokio::test]
async fn behind_a_proxy_that_speaks_tls_the_token_endpoint_is_there_too() {
    let guarded = Guarded::start(&[]);
    for (forwarded, scheme) in [
        ("https", "https"),
        ("HTTPS, http", "https"),
        ("http", "http"),
    ] {
        let request = guarded.request("GET", "/v2/");
        let request = request.header("host", "registry.example");
        let request = request.header("x-forwarded-proto", forwarded);
        let refused = request.send().await.unwrap();
        let expected = format!(r#"Bearer realm="{scheme}://registry.example/token","#);
        let challenge = header(&refused, "www-authenticate");
        assert!(challenge.starts_with(&expected), "{challenge}");
    }
}

#[tokio::test]
async fn users_come_and_go_with_their_file() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    let flag = users.to_str().unwrap();
    let flags = ["-addr", "127.0.0.1:0", "-memory", "-htpasswd", flag];
    let fails = |expected: &str| {
        let (code, text) = refused(&flags);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(text.contains(flag) && !text.contains("$apr1$"), "{text}");
    };
    fails("cannot read who is known from");
    fs::write(&users, "# nobody\n").unwrap();
    fails("no user is in");
    fs::write(&users, "\njane:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/\n").unwrap();
    fails("line 2: the password of `jane` is kept as MD5");
    fs::write(&users, format!("jane:{}\n", crate::logins::SECRET)).unwrap();
    let process = Process::serve(&flags);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |user: &'static str| {
        let request = client.get(format!("{}/token", process.url));
        let request = request.basic_auth(user, Some("secret"));
        async { request.send().await.unwrap() }
    };
    let jane: Value = ask("jane").await.json().await.unwrap();
    let token = jane["token"].as_str().unwrap();
    let api = format!("{}/v2/", process.url);
    let api = || async {
        let request = client.get(&api).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(api().await, 200);
    // Noticed without a signal, and what is wrong changes nothing.
    fs::write(&users, "nonsense").unwrap();
    assert_eq!(ask("jane").await.status(), 200);
    fs::write(&users, format!("joe:{}\n", crate::logins::SECRET)).unwrap();
    let noticed = async {
        while api().await == 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let noticed = tokio::time::timeout(PATIENCE, noticed).await;
    noticed.expect("a file that changes is read again");
    assert_eq!(api().await, 401);
    assert_eq!(ask("jane").await.status(), 401);
    assert_eq!(ask("joe").await.status(), 200);
}
