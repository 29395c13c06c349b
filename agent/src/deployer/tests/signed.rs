//! Hosts that deploy only what somebody vouches for, from a source that nobody does.

use deploy_spec::{
    ReleaseNumber,
    signature::{NAMESPACE, Purpose, Signature, Statement},
};
use jiff::tz::TimeZone;
use serde_json::json;
use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

use super::{host::Host, *};
use crate::{
    Gate,
    machine::{Exit, OnFailure},
    plan::{Fetching, Plan, Planning},
};

/// What a source shows as the channel.
type Shown = (Digest, Vec<u8>);

fn key(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

/// A host whose signer has the first key.
fn host() -> Host {
    let mut host = Host::new();
    let file = host.path("signers");
    allow(&host, &[1]);
    host.gate = Some(Gate {
        file,
        zone: TimeZone::UTC,
        repository: "acme/configs/project".parse().unwrap(),
    });
    host
}

fn allow(host: &Host, seeds: &[u8]) {
    let line = |seed: &u8| {
        let public = key(*seed).public_key().to_openssh().unwrap();
        format!("signer{seed} {public}\n")
    };
    let text: String = seeds.iter().map(line).collect();
    fs::write(host.path("signers"), text).unwrap();
}

/// Signs a release that the source has, so many seconds after the first moment of this test.
fn sign(host: &Host, seed: u8, number: u64, id: &Digest, purpose: Purpose, second: i64) {
    let statement = Statement {
        repository: "acme/configs/project".parse().unwrap(),
        release: id.clone(),
        number: ReleaseNumber::new(number),
        purpose,
        time: Timestamp::from_second(1_700_000_000 + second).unwrap(),
    };
    let statement = statement.to_bytes();
    let envelope = key(seed).sign(NAMESPACE, HashAlg::Sha512, &statement);
    let armored = envelope.unwrap().to_pem(LineEnding::LF).unwrap().into();
    let signature = Signature { statement, armored };
    let mut all = host.source.signatures.lock().unwrap();
    all.push((id.clone(), signature));
}

/// Makes a release that the first key has signed; its number is its time too.
fn signed(host: &Host, number: u64) -> Shown {
    let id = host.release(number);
    let second = i64::try_from(number).unwrap();
    sign(host, 1, number, &id, Purpose::Release, second);
    shown(host)
}

fn shown(host: &Host) -> Shown {
    host.source.channel.lock().unwrap().clone().unwrap()
}

/// Has the source show something again.
fn show(host: &Host, (id, bytes): &Shown) {
    *host.source.channel.lock().unwrap() = Some((id.clone(), bytes.clone()));
}

fn why(host: &Host) -> String {
    host.entry().refused.expect("something is refused").why
}

#[tokio::test]
async fn unsigned_release_is_not_fetched_and_deployed_once_it_is_signed() {
    let host = host();
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Failure);
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), 0);
    assert_eq!(host.entry().release, None);
    assert!(
        why(&host).starts_with("it has no signature;"),
        "{}",
        why(&host)
    );
    let refused = host.entry().refused;
    sign(&host, 2, 1, &first, Purpose::Release, 1);
    assert_eq!(host.look().await, Exit::Failure);
    assert!(why(&host).contains("is not among the allowed signers"));
    assert_ne!(host.entry().refused, refused);
    // Somebody else may sign from now on.
    allow(&host, &[1, 2]);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&first);
    let signed = host.state().signed.unwrap();
    assert_eq!(signed.principals, "signer2");
    assert_eq!(host.entry().refused, None);
    // And nobody does.
    fs::write(host.path("signers"), "jane ssh-ed25519 AAAA\n").unwrap();
    host.release(2);
    assert_eq!(host.look().await, Exit::Failure);
    assert!(
        why(&host).contains("line 1: not somebody"),
        "{}",
        why(&host)
    );
    host.assert_on(&first);
}

#[tokio::test]
async fn following_agent_looks_for_the_signature_again_by_itself() {
    let host = host();
    let first = host.release(1);
    let following = host.follow(OnFailure::Retry);
    let journal = host.path("host/journal.json");
    let refused = || fs::read_to_string(&journal).is_ok_and(|text| text.contains("no signature"));
    until("the release is refused", refused).await;
    sign(&host, 1, 1, &first, Purpose::Release, 1);
    let state = host.path("host/state.json");
    until("the release is deployed", || state.exists()).await;
    assert_eq!(following.end().await, Exit::Success);
    assert_eq!(host.state().id, first);
}

#[tokio::test]
async fn older_releases_come_back_only_as_rollbacks_that_are_new() {
    let host = host();
    let first = signed(&host, 1);
    assert_eq!(host.look().await, Exit::Success);
    let second = signed(&host, 2);
    assert_eq!(host.look().await, Exit::Success);
    show(&host, &first);
    assert_eq!(host.look().await, Exit::Failure);
    assert!(
        why(&host).starts_with("v2 was accepted before"),
        "{}",
        why(&host)
    );
    host.assert_on(&second.0);
    sign(&host, 1, 1, &first.0, Purpose::Rollback, 2);
    assert_eq!(host.look().await, Exit::Failure);
    assert!(
        why(&host).starts_with("it was signed as a rollback"),
        "{}",
        why(&host)
    );
    sign(&host, 1, 1, &first.0, Purpose::Rollback, 10);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&first.0);
    assert_eq!(host.state().signed.unwrap().purpose, Purpose::Rollback);
    // What was left stays left, and the way back is gone once.
    show(&host, &second);
    assert_eq!(host.look().await, Exit::Failure);
    let third = signed(&host, 3);
    assert_eq!(host.look().await, Exit::Success);
    show(&host, &first);
    assert_eq!(host.look().await, Exit::Failure);
    host.assert_on(&third.0);
    show(&host, &third);
    assert_eq!(host.look().await, Exit::Success);
    assert_eq!(host.entry().refused, None);
}

#[tokio::test]
async fn dying_around_any_step_does_not_let_older_releases_in() {
    let steps = at_each_death(async |death| {
        let host = host();
        let first = signed(&host, 1);
        assert_eq!(host.look().await, Exit::Success);
        let second = signed(&host, 2);
        assert_eq!(host.look().await, Exit::Success);
        let third = signed(&host, 3);
        let (_, works) = host.once(Some(death)).await;
        show(&host, &first);
        host.look().await;
        let on = host.state().id;
        assert!(on == second.0 || on == third.0, "{death:?}: {on}");
        let accepted = host.entry().accepted.unwrap();
        show(&host, &third);
        assert_eq!(host.look().await, Exit::Success, "{death:?}");
        host.assert_on(&third.0);
        assert!(accepted.number <= host.entry().accepted.unwrap().number);
        works
    })
    .await;
    assert!(steps >= 7, "{steps}");
}

#[tokio::test]
async fn lost_journal_does_not_let_older_releases_in() {
    let host = host();
    let first = signed(&host, 1);
    let second = signed(&host, 2);
    assert_eq!(host.look().await, Exit::Success);
    fs::write(host.path("host/journal.json"), "{ no json").unwrap();
    show(&host, &first);
    assert_eq!(host.look().await, Exit::Failure);
    host.assert_on(&second.0);
    sign(&host, 1, 1, &first.0, Purpose::Rollback, 2);
    assert_eq!(host.look().await, Exit::Failure);
}

#[tokio::test]
async fn what_is_deployed_without_signatures_counts_when_they_are_asked_for_later() {
    let mut host = host();
    let gate = host.gate.take();
    let first = signed(&host, 1);
    host.release(5);
    assert_eq!(host.look().await, Exit::Success);
    assert_eq!(host.state().signed, None);
    host.gate = gate;
    // It is there already: nobody is asked.
    assert_eq!(host.look().await, Exit::Success);
    show(&host, &first);
    assert_eq!(host.look().await, Exit::Failure);
    let sixth = signed(&host, 6);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&sixth.0);
}

#[tokio::test]
async fn whoever_is_on_the_host_goes_back_without_a_signature() {
    let host = host();
    let first = signed(&host, 1);
    assert_eq!(host.look().await, Exit::Success);
    let second = signed(&host, 2);
    assert_eq!(host.look().await, Exit::Success);
    fs::write(host.path("signers"), "").unwrap();
    host.ask("rollback");
    host.look().await;
    host.assert_on(&first.0);
    // And forward again, to what was accepted.
    allow(&host, &[1]);
    host.ask("retry");
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second.0);
}

#[tokio::test]
async fn plan_says_whether_a_release_would_be_let_in() {
    let host = host();
    let configuration = "project".parse().unwrap();
    let plan = async || {
        let planning = Planning {
            host: host.visited(),
            configuration: &configuration,
            channel: "latest",
            unpacking: &UnpackOptions::default(),
            fetching: Fetching::Refused,
            gate: host.gate.as_ref(),
            clock: host.clock,
        };
        Plan::make(&*host.source, &planning).await.unwrap()
    };
    let first = host.release(1);
    let unsigned = plan().await;
    let text = unsigned.to_string();
    assert!(
        text.contains("refused: it would not be deployed: it has no signature"),
        "{text}"
    );
    let value = serde_json::to_value(&unsigned).unwrap();
    assert_eq!(value["signature"]["accepted"], false);
    sign(&host, 1, 1, &first, Purpose::Release, 1);
    let signed = plan().await;
    assert!(
        signed.to_string().contains("signed: by signer1 (SHA256:"),
        "{signed}"
    );
    let value = serde_json::to_value(&signed).unwrap();
    assert_eq!(value["signature"]["signed"]["purpose"], json!("release"));
    assert_eq!(value["signature"]["why"], json!(null));
}
