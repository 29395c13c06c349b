//! What holds for files of people, and for whoever is none of them.

use deploy_spec::Fingerprint;
use http::header;

use super::{RUNTIME, read_request, registry::Registry};
use crate::{
    Store,
    auth::{Gatekeeper, Role, Sources, Tokens, UsedNonces, parse_keys, parse_users},
    identity::Identity,
};

/// A file of keys or of users is read, or refused with one of its lines.
pub fn people(input: &str) {
    let lines = input.lines().count();
    match parse_keys(input, Role::Write) {
        Err(error) => assert!((1..=lines).contains(&error.line), "{error}"),
        Ok(keys) => {
            assert!(keys.len() <= lines);
            for (fingerprint, key) in keys {
                let bytes = key.public.to_bytes().expect("it was read from some");
                assert_eq!(Fingerprint::of_ssh_key(&bytes), fingerprint);
            }
        }
    }
    match parse_users(input) {
        Err(error) => assert!((1..=lines).contains(&error.line), "{error}"),
        Ok(users) => {
            assert!(users.len() <= lines);
            for (name, user) in users {
                assert!(!name.contains(':'));
                let line = input.lines().map(str::trim).find_map(|line| {
                    let (found, rest) = line.split_once(':')?;
                    (found == name).then(|| rest.split_once(':').unwrap_or((rest, "")))
                });
                let (hash, behind) = line.expect("it is what a line says");
                // What the user may do is shown, whatever is written there.
                let is_shown = format!("{user:?}").contains(hash);
                assert!(!is_shown || behind.contains(hash));
            }
        }
    }
}

/// Whatever a stranger asks, in whatever order: he gets nothing, and nothing fails on our side. As with
/// `requests`, requests have `---` between them.
pub fn strangers(input: &[u8]) {
    RUNTIME.block_on(async {
        const SEPARATOR: &[u8] = b"\n---\n";
        // With more, who fails so often would be kept waiting.
        const REQUESTS_MAX: usize = 4;
        let tokens = Tokens::of(&Identity::generate());
        let names = Box::new(|_: &str| true);
        let store = Store::memory();
        let nonces = UsedNonces::of(&store, false);
        let gatekeeper = Gatekeeper::new(tokens, names, nonces, &Sources::default());
        let gatekeeper = gatekeeper.expect("there are no files");
        let registry = Registry::guarded(store, gatekeeper);
        let mut rest = input;
        for _ in 0..REQUESTS_MAX {
            let end = (rest.windows(SEPARATOR.len())).position(|window| window == SEPARATOR);
            let one = &rest[..end.unwrap_or(rest.len())];
            if let Some(request) = read_request(one, "") {
                let path = request.uri().path().to_owned();
                let answer = registry.send(request).await;
                let public = ["/healthz", "/readyz", "/metrics", "/token/nonce"];
                let refused = answer.status.is_client_error();
                assert!(refused || public.contains(&path.as_str()), "{path}");
                if path.starts_with("/v2") && answer.status == 401 {
                    assert!(answer.header(header::WWW_AUTHENTICATE).len() < 4096);
                }
            }
            let Some(end) = end else {
                break;
            };
            rest = &rest[end + SEPARATOR.len()..];
        }
    });
}
