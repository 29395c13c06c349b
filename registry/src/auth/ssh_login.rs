//! Whether somebody has the SSH key that he says he has. Pure; asked by `gatekeeper`.

use deploy_spec::{
    Fingerprint,
    login::{NAMESPACE, Statement},
};
use jiff::{SignedDuration, Timestamp};
use ssh_key::{Algorithm, SshSig};

use super::KnownKey;

/// How far a client's clock may be off.
pub(super) const CLOCKS: SignedDuration = SignedDuration::from_secs(300);
/// In the flags of a security key's signature (PROTOCOL.u2f): somebody touched it.
const TOUCHED: u8 = 0x01;
/// It knew who.
const VERIFIED: u8 = 0x04;
/// Behind the signature itself: a byte of flags and a counter.
const FLAGS_FROM_END: usize = 5;

/// Why a signature proves nothing. Clients are told the same whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It is no signature, or one for another purpose.
    #[error("it is no SSH signature for this purpose")]
    NoSignature,
    /// It was made by a key that is in no file.
    #[error("nobody here has that key")]
    Unknown,
    /// It was made by another key, or of other words.
    #[error("it was not made by that key of these words")]
    Wrong,
    /// It was made for another registry, or for this one under a name that it does not know.
    #[error(
        "it was made for a registry of another name\nhint: `--name` tells this one under which names it is reached"
    )]
    Elsewhere,
    /// Nobody touched the security key.
    #[error("nobody touched the security key")]
    Untouched,
    /// It was made long ago, or is said to be made later.
    #[error("it was made at another time, or one of the clocks is wrong")]
    Time,
    /// The occasion is over, or was never one.
    #[error("its nonce was used before, has expired, or is none of this registry")]
    Nonce,
}

/// Returns which key made a signature, as it says itself.
pub(super) fn signer(signature: &SshSig) -> Option<Fingerprint> {
    let key = ssh_key::PublicKey::from(signature.public_key().clone());
    Some(Fingerprint::of_ssh_key(&key.to_bytes().ok()?))
}

/// Proves that whoever has this key signed the statement just now.
pub(super) fn prove(
    key: &KnownKey,
    statement: &Statement<'_>,
    signature: &SshSig,
    now: Timestamp,
) -> Result<(), LoginError> {
    if now.duration_since(statement.time).abs() > CLOCKS {
        return Err(LoginError::Time);
    }
    let words = statement.text().ok_or(LoginError::Wrong)?;
    let verified = key.public.verify(NAMESPACE, words.as_bytes(), signature);
    verified.map_err(|_| LoginError::Wrong)?;
    let algorithm = key.public.algorithm();
    let is_security_key = matches!(
        algorithm,
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256
    );
    if !is_security_key {
        return Ok(());
    }
    let bytes = signature.signature_bytes();
    let flags = bytes.len().checked_sub(FLAGS_FROM_END);
    let flags = flags.and_then(|at| bytes.get(at)).copied().unwrap_or(0);
    let lacks = |wanted: bool, flag: u8| wanted && flags & flag == 0;
    match lacks(key.touch, TOUCHED) || lacks(key.verify, VERIFIED) {
        true => Err(LoginError::Untouched),
        false => Ok(()),
    }
}
