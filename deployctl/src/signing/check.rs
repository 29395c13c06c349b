//! Whether a signature counts: made by a key that is listed, valid and meant for this, of a
//! statement about this release of this configuration. Pure.

use deploy_spec::{
    Digest, Fingerprint, ReleaseNumber, RepositoryName, openssh,
    signature::{NAMESPACE, Signature, Statement, StatementError},
};
use jiff::{SignedDuration, Timestamp};
use ssh_key::{Algorithm, PublicKey, SshSig};

use super::{AllowedSigner, AllowedSigners};

/// How far the clock of whoever signed may be ahead.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);
/// In the flags of a security key's signature (PROTOCOL.u2f): somebody touched it.
const TOUCHED: u8 = 0x01;
/// Behind the signature itself: a byte of flags and a counter.
const FLAGS_FROM_END: usize = 5;

/// What a signature has to be of, and when it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The repository of the configuration, with its prefix.
    pub repository: &'a RepositoryName,
    /// The digest of the release's manifest.
    pub release: &'a Digest,
    /// The number that the manifest has.
    pub number: Option<ReleaseNumber>,
    /// The time: keys count that are valid now, whenever something was signed, since nobody but
    /// its holder says when that was.
    pub now: Timestamp,
}

/// A signature, with what can be said of it.
#[derive(Debug)]
pub struct Checked {
    /// The key that made it, as it says itself; proven where nothing is wrong.
    pub fingerprint: Option<Fingerprint>,
    /// Whose the key is, where it is listed.
    pub principals: Option<String>,
    /// What it is of, as far as that can be read; somebody's word where nothing is wrong.
    pub statement: Option<Statement>,
    /// What is wrong with it, where something is.
    pub wrong: Option<Invalid>,
}

/// Why a signature does not count.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// It cannot be read.
    #[error("it is no SSH signature ({0})")]
    NoSignature(ssh_key::Error),
    /// It was made for something else.
    #[error("it is a signature for `{}`, not for `{NAMESPACE}`", .0.escape_debug())]
    OtherNamespace(String),
    /// Its key is nobody's.
    #[error("its key `{0}` is not among the allowed signers")]
    Unlisted(Fingerprint),
    /// Its key signs other things.
    #[error("its key is listed for other namespaces than `{NAMESPACE}`")]
    NotForReleases,
    /// Its key will count later.
    #[error("its key is not valid before {0}")]
    NotYetValid(Timestamp),
    /// Its key does not count any more.
    #[error("its key was valid until {0}")]
    Expired(Timestamp),
    /// The key did not make it, or the statement has changed since.
    #[error("its key has not signed this statement")]
    Wrong,
    /// Nobody was there when a security key signed.
    #[error("nobody touched the security key that made it")]
    Untouched,
    /// What is signed is no statement.
    #[error(transparent)]
    Statement(StatementError),
    /// It says something of another configuration.
    #[error("it is of `{0}`")]
    OtherRepository(RepositoryName),
    /// It says something of another release.
    #[error("it is of the release `{0}`")]
    OtherRelease(Digest),
    /// It has another number than the release itself.
    #[error("it calls the release {}, and the release itself says {}", named(.said), named(.is))]
    OtherNumber {
        /// The statement.
        said: Option<ReleaseNumber>,
        /// The manifest.
        is: Option<ReleaseNumber>,
    },
    /// It is not the time that it was made at.
    #[error("it was made at {0}, which is still to come: one of the clocks is wrong")]
    Future(Timestamp),
}

fn named(number: &Option<ReleaseNumber>) -> String {
    number.map_or_else(|| "nothing".to_owned(), |number| number.to_string())
}

impl Invalid {
    /// Whether nothing but time has to pass for the signature to count.
    pub fn is_early(&self) -> bool {
        matches!(self, Self::NotYetValid(_) | Self::Future(_))
    }
}

/// Returns what can be said of a signature.
pub fn check(signature: &Signature, question: &Question<'_>, signers: &AllowedSigners) -> Checked {
    let mut checked = Checked {
        fingerprint: None,
        principals: None,
        statement: None,
        wrong: None,
    };
    checked.wrong = judge(&mut checked, signature, question, signers).err();
    // For whoever looks at what does not count.
    if checked.statement.is_none() {
        checked.statement = Statement::parse(&signature.statement).ok();
    }
    checked
}

fn judge(
    checked: &mut Checked,
    signature: &Signature,
    question: &Question<'_>,
    signers: &AllowedSigners,
) -> Result<(), Invalid> {
    let envelope = SshSig::from_pem(&signature.armored).map_err(Invalid::NoSignature)?;
    let key = PublicKey::from(envelope.public_key().clone());
    let encoded = key.to_bytes().map_err(Invalid::NoSignature)?;
    let fingerprint = Fingerprint::of_ssh_key(&encoded);
    checked.fingerprint = Some(fingerprint);
    if envelope.namespace() != NAMESPACE {
        return Err(Invalid::OtherNamespace(envelope.namespace().to_owned()));
    }
    let signer = listed(&key, question.now, signers);
    let (signer, counts) = signer.ok_or(Invalid::Unlisted(fingerprint))?;
    checked.principals = Some(signer.principals.clone());
    let verified = (signer.key).verify(NAMESPACE, &signature.statement, &envelope);
    verified.map_err(|_| Invalid::Wrong)?;
    touched(&envelope)?;
    counts?;
    // Nothing of it is read before it is known who wrote it.
    let statement = Statement::parse(&signature.statement).map_err(Invalid::Statement)?;
    let statement = checked.statement.insert(statement);
    if statement.repository != *question.repository {
        return Err(Invalid::OtherRepository(statement.repository.clone()));
    }
    if statement.release != *question.release {
        return Err(Invalid::OtherRelease(statement.release.clone()));
    }
    if statement.number != question.number {
        return Err(Invalid::OtherNumber {
            said: statement.number,
            is: question.number,
        });
    }
    if statement.time.duration_since(question.now) > CLOCKS {
        return Err(Invalid::Future(statement.time));
    }
    Ok(())
}

/// Returns the first line by which the key counts; else the first one that has it, and why it does
/// not.
fn listed<'a>(
    key: &PublicKey,
    now: Timestamp,
    signers: &'a AllowedSigners,
) -> Option<(&'a AllowedSigner, Result<(), Invalid>)> {
    let lines = signers
        .iter()
        .filter(|signer| signer.key.key_data() == key.key_data());
    let mut judged = lines.map(|signer| (signer, signer.counts(now)));
    let first = judged.next()?;
    match first.1 {
        Ok(()) => Some(first),
        Err(_) => Some(judged.find(|(_, counts)| counts.is_ok()).unwrap_or(first)),
    }
}

impl AllowedSigner {
    /// Both ends of the time are in it, as in OpenSSH.
    fn counts(&self, now: Timestamp) -> Result<(), Invalid> {
        let meant = |list: &String| openssh::list_matches(list, NAMESPACE);
        if !self.namespaces.as_ref().is_none_or(meant) {
            return Err(Invalid::NotForReleases);
        }
        match (self.valid_after, self.valid_before) {
            (Some(after), _) if now < after => Err(Invalid::NotYetValid(after)),
            (_, Some(before)) if now > before => Err(Invalid::Expired(before)),
            _ => Ok(()),
        }
    }
}

fn touched(envelope: &SshSig) -> Result<(), Invalid> {
    let is_security_key = matches!(
        envelope.algorithm(),
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256
    );
    if !is_security_key {
        return Ok(());
    }
    let bytes = envelope.signature_bytes();
    let flags = bytes.len().checked_sub(FLAGS_FROM_END);
    let flags = flags.and_then(|at| bytes.get(at)).copied().unwrap_or(0);
    match flags & TOUCHED {
        0 => Err(Invalid::Untouched),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
