//! Signatures that count, and what is wrong with those that do not. Keys are made of seeds.

use deploy_spec::signature::Purpose;
use jiff::tz::TimeZone;
use ssh_key::{
    HashAlg, LineEnding, PrivateKey, Signature as RawSignature, SigningKey,
    private::Ed25519Keypair,
    public::{KeyData, SkEd25519},
    sha2::{Digest as _, Sha256},
};

use super::*;

const NOW: &str = "2026-06-01T12:00:00Z";

fn key(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

fn statement() -> Statement {
    Statement {
        repository: "acme/configs/project".parse().unwrap(),
        release: Digest::sha256(b"release"),
        number: ReleaseNumber::new(3),
        purpose: Purpose::Release,
        time: NOW.parse().unwrap(),
    }
}

fn signed(key: &PrivateKey, namespace: &str, statement: &Statement) -> Signature {
    let statement = statement.to_bytes();
    let envelope = key.sign(namespace, HashAlg::Sha512, &statement).unwrap();
    Signature {
        armored: envelope.to_pem(LineEnding::LF).unwrap().into(),
        statement,
    }
}

/// A file with one line of a key.
fn listed(options: &str, key: &PublicKey) -> AllowedSigners {
    let line = format!("jane@example.com {options} {}", key.to_openssh().unwrap());
    AllowedSigners::parse(&line, &TimeZone::UTC).unwrap()
}

fn checked(signature: &Signature, signers: &AllowedSigners) -> Checked {
    let question = Question {
        repository: &"acme/configs/project".parse().unwrap(),
        release: &Digest::sha256(b"release"),
        number: ReleaseNumber::new(3),
        now: NOW.parse().unwrap(),
    };
    check(signature, &question, signers)
}

#[track_caller]
fn wrong(signature: &Signature, signers: &AllowedSigners) -> Invalid {
    checked(signature, signers)
        .wrong
        .expect("something is wrong")
}

#[test]
fn signature_by_a_listed_key_counts() {
    let key = key(1);
    let signature = signed(&key, NAMESPACE, &statement());
    for options in [
        "",
        r#"namespaces="git,*@deploy-tools""#,
        r#"valid-after="20260601120000Z",valid-before="20260601120001Z""#,
        r#"valid-after="20260601115959Z",valid-before="20260601120000Z""#,
    ] {
        let found = checked(&signature, &listed(options, key.public_key()));
        assert!(found.wrong.is_none(), "{options}: {found:?}");
        assert_eq!(found.principals.as_deref(), Some("jane@example.com"));
        assert_eq!(found.statement, Some(statement()));
        let shown = key.public_key().fingerprint(HashAlg::Sha256).to_string();
        assert_eq!(found.fingerprint.unwrap().to_string(), shown);
    }
}

#[test]
fn what_was_changed_or_signed_by_others_does_not_count() {
    let signers = listed("", key(1).public_key());
    let good = signed(&key(1), NAMESPACE, &statement());
    let mut tampered = good.clone();
    let at = tampered.statement.len() - 3;
    tampered.statement[at] ^= 1;
    assert!(matches!(wrong(&tampered, &signers), Invalid::Wrong));
    let stranger = signed(&key(2), NAMESPACE, &statement());
    assert!(matches!(wrong(&stranger, &signers), Invalid::Unlisted(_)));
    // What is shown of it is its own word.
    assert!(checked(&stranger, &signers).statement.is_some());
    for namespace in ["git", "token@deploy-tools"] {
        let found = wrong(&signed(&key(1), namespace, &statement()), &signers);
        assert!(matches!(&found, Invalid::OtherNamespace(other) if other == namespace));
    }
    for armored in [&b""[..], b"x", &good.armored[..100], b"\xff\xfe"] {
        let broken = Signature {
            armored: armored.to_vec(),
            ..good.clone()
        };
        assert!(matches!(wrong(&broken, &signers), Invalid::NoSignature(_)));
    }
    let other = Signature {
        statement: b"{}".to_vec(),
        armored: {
            let envelope = key(1).sign(NAMESPACE, HashAlg::Sha512, b"{}").unwrap();
            envelope.to_pem(LineEnding::LF).unwrap().into()
        },
    };
    assert!(matches!(wrong(&other, &signers), Invalid::Statement(_)));
    assert!(matches!(
        wrong(&good, &AllowedSigners::default()),
        Invalid::Unlisted(_)
    ));
}

#[test]
fn statements_about_something_else_do_not_count() {
    let signers = listed("", key(1).public_key());
    let found = |change: &dyn Fn(&mut Statement)| {
        let mut statement = statement();
        change(&mut statement);
        wrong(&signed(&key(1), NAMESPACE, &statement), &signers)
    };
    let other =
        found(&|statement| statement.repository = "staging/configs/project".parse().unwrap());
    assert!(matches!(other, Invalid::OtherRepository(_)), "{other}");
    let other = found(&|statement| statement.release = Digest::sha256(b"other"));
    assert!(matches!(other, Invalid::OtherRelease(_)), "{other}");
    let other = found(&|statement| statement.number = ReleaseNumber::new(4));
    assert_eq!(
        other.to_string(),
        "it calls the release v4, and the release itself says v3"
    );
    let early = found(&|statement| statement.time = "2026-06-01T12:05:01Z".parse().unwrap());
    assert!(matches!(early, Invalid::Future(_)) && early.is_early());
}

#[test]
fn options_of_the_key_count() {
    let key = key(1);
    let signature = signed(&key, NAMESPACE, &statement());
    let found = |options: &str| wrong(&signature, &listed(options, key.public_key()));
    assert!(matches!(
        found(r#"namespaces="git,file""#),
        Invalid::NotForReleases
    ));
    let early = found(r#"valid-after="20260602Z""#);
    assert!(matches!(early, Invalid::NotYetValid(_)) && early.is_early());
    let late = found(r#"valid-before="20260601Z""#);
    assert!(matches!(late, Invalid::Expired(_)) && !late.is_early());
    // Another line of the same key may say more.
    let public = key.public_key().to_openssh().unwrap();
    let text = format!("old valid-before=\"20200101Z\" {public}\nnew {public}\n");
    let signers = AllowedSigners::parse(&text, &TimeZone::UTC).unwrap();
    let found = checked(&signature, &signers);
    assert!(found.wrong.is_none());
    assert_eq!(found.principals.as_deref(), Some("new"));
}

fn plainly(key: &impl SigningKey, data: &[u8]) -> RawSignature {
    key.try_sign(data).unwrap()
}

/// What a security key with these flags makes (PROTOCOL.u2f): the same key signs the digests of
/// the application and of the words, with the flags and a counter between.
fn by_security_key(flags: u8) -> (PublicKey, Signature) {
    let inner = key(1);
    let KeyData::Ed25519(point) = inner.public_key().key_data() else {
        unreachable!("it was made of a seed");
    };
    let public = SkEd25519::new(*point, "ssh:".to_owned());
    let statement = statement().to_bytes();
    let words = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, &statement).unwrap();
    let trailer = [flags, 0, 0, 0, 7];
    let mut data = Sha256::digest(b"ssh:").to_vec();
    data.extend(trailer);
    data.extend(Sha256::digest(&words));
    let raw = plainly(&inner, &data);
    let mut raw = raw.as_bytes().to_vec();
    raw.extend(trailer);
    let raw = RawSignature::new(Algorithm::SkEd25519, raw).unwrap();
    let public = KeyData::SkEd25519(public);
    let envelope = SshSig::new(public.clone(), NAMESPACE, HashAlg::Sha512, raw).unwrap();
    let armored = envelope.to_pem(LineEnding::LF).unwrap().into();
    (public.into(), Signature { statement, armored })
}

#[test]
fn security_keys_have_to_be_touched() {
    let (public, signature) = by_security_key(0x01);
    let found = checked(&signature, &listed("", &public));
    assert!(found.wrong.is_none(), "{found:?}");
    let (public, signature) = by_security_key(0x04);
    assert!(matches!(
        wrong(&signature, &listed("", &public)),
        Invalid::Untouched
    ));
}
