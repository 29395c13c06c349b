//! Everybody whom the registry knows, and what they may do: asked by the token endpoint and by
//! every request. Changed as a whole when files change.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use deploy_spec::{Actions, Fingerprint, Scope, login::Statement};
use jiff::Timestamp;
use ssh_key::SshSig;

use super::{
    Grant, KnownKey, KnownKeys, LoginError, Proven, Sources, SourcesError, Subject, TokenError,
    Tokens, UsedNonces,
    entry::Door,
    passwords::Passwords,
    sources::{self, Read},
    ssh_login,
};

/// How long a token for requests is good: a request that has begun goes on, whatever it takes.
const ACCESS_LIFE: Duration = Duration::from_secs(300);
/// How long one can have more of them without a signature.
const REFRESH_LIFE: Duration = Duration::from_secs(3600);
/// The same for whoever has a password: clients keep this in its place, and it is less than that.
const PASSWORD_REFRESH_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long it may take to sign.
const NONCE_LIFE: Duration = Duration::from_secs(60);

/// Everybody who is known at one time.
#[derive(Debug, Default)]
pub(super) struct Known {
    keys: KnownKeys,
    pub(super) passwords: Passwords,
    anonymous: Option<Grant>,
}

/// Somebody, as people know him: for those who write down who did what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who he is to the registry.
    pub subject: Subject,
    /// Whose key it is, as its comment in the file says; empty for everybody else.
    pub comment: String,
}

impl Caller {
    /// Returns nobody in particular.
    pub fn anonymous() -> Self {
        Self {
            subject: Subject::Anonymous,
            comment: String::new(),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, comment } = self;
        match comment.is_empty() {
            true => write!(formatter, "{subject}"),
            false => write!(formatter, "{subject} ({})", comment.escape_debug()),
        }
    }
}

impl Known {
    fn read(sources: &Sources) -> Result<Self, SourcesError> {
        let Read {
            keys,
            passwords,
            anonymous,
        } = sources::read(sources)?;
        Ok(Self {
            keys,
            passwords,
            anonymous,
        })
    }

    fn caller(&self, subject: &Subject) -> Caller {
        let comment = match subject {
            Subject::Key(fingerprint) => self.keys.get(fingerprint).map(|key| key.comment.clone()),
            Subject::Anonymous | Subject::User(_) => None,
        };
        Caller {
            subject: subject.clone(),
            comment: comment.unwrap_or_default(),
        }
    }

    fn grant(&self, proven: &Proven, now: Timestamp) -> Option<&Grant> {
        let grant = match &proven.subject {
            Subject::Anonymous => self.anonymous.as_ref(),
            Subject::Key(fingerprint) => self.keys.get(fingerprint).map(|key| &key.grant),
            Subject::User(name) => {
                let user = self.passwords.user(name);
                let user = user.filter(|user| proven.password.as_ref() == Some(&user.tag));
                user.map(|user| &user.grant)
            }
        };
        grant.filter(|grant| !grant.is_expired(now))
    }
}

/// Who a request is of, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    caller: Caller,
    scopes: Vec<Scope>,
}

impl fmt::Debug for Gatekeeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Gatekeeper")
    }
}

impl Permit {
    /// Returns who it is of.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether it is for all of this.
    pub fn allows(&self, wanted: &Scope) -> bool {
        let same = |scope: &&Scope| scope.resource == wanted.resource;
        let allowed = self.scopes.iter().filter(same);
        let allowed = allowed.fold(Actions::NONE, |all, scope| all.or(scope.actions));
        allowed.include(wanted.actions)
    }
}

/// Whether this is what the registry is called: the fingerprint of a key of its own, or
/// `host[:port]`.
pub type Names = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Knows who may do what.
pub struct Gatekeeper {
    tokens: Tokens,
    pub(super) nonces: UsedNonces,
    names: Names,
    known: RwLock<Arc<Known>>,
    pub(super) door: Door,
}

impl Gatekeeper {
    /// Returns one who knows everybody in the files, and notes there which nonces were used.
    ///
    /// # Errors
    /// [`SourcesError`].
    pub fn new(
        tokens: Tokens,
        names: Names,
        nonces: UsedNonces,
        sources: &Sources,
    ) -> Result<Self, SourcesError> {
        let known = RwLock::new(Arc::new(Known::read(sources)?));
        Ok(Self {
            tokens,
            names,
            nonces,
            known,
            door: Door::default(),
        })
    }

    /// Reads the files anew. Whoever is in them no more is refused from now on, whatever tokens he
    /// has.
    ///
    /// # Errors
    /// [`SourcesError`]; everything stays as it is then.
    pub fn reload(&self, sources: &Sources) -> Result<(), SourcesError> {
        let known = Arc::new(Known::read(sources)?);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    pub(super) fn known(&self) -> Arc<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known)
    }

    /// Returns a key that is known.
    pub fn key(&self, fingerprint: &Fingerprint) -> Option<KnownKey> {
        self.known().keys.get(fingerprint).cloned()
    }

    /// Returns who somebody is to people.
    pub fn caller(&self, subject: &Subject) -> Caller {
        self.known().caller(subject)
    }

    /// Returns what somebody may do at this time; nothing where he is not known any more, or has
    /// another password.
    pub fn grant(&self, proven: &Proven, now: Timestamp) -> Option<Grant> {
        self.known().grant(proven, now).cloned()
    }

    /// Returns a token for what somebody may do of what is asked for, which may be nothing, and how
    /// long it is good; nothing where he may do nothing at all.
    pub fn token(
        &self,
        proven: &Proven,
        wanted: &[Scope],
        now: Timestamp,
    ) -> Option<(String, Duration)> {
        let grant = self.grant(proven, now)?;
        let allowed = wanted.iter().map(|scope| Scope {
            resource: scope.resource.clone(),
            actions: grant.allowed(scope),
        });
        let allowed: Vec<_> = allowed.filter(|scope| !scope.actions.is_empty()).collect();
        let token = self.tokens.access(proven, &allowed, now, ACCESS_LIFE);
        Some((token, ACCESS_LIFE))
    }

    /// Returns what somebody is to sign with, once, and how long it is good.
    pub fn nonce(&self, now: Timestamp) -> (String, Duration) {
        (self.tokens.nonce(now, NONCE_LIFE), NONCE_LIFE)
    }

    /// Returns who signed a statement, where that is somebody who is known, and just now; and until
    /// when its nonce is good, which is for the caller to use up: last, so that nobody without a key
    /// uses one up.
    ///
    /// # Errors
    /// [`LoginError`].
    pub(super) fn signer(
        &self,
        statement: &Statement<'_>,
        signature: &str,
        now: Timestamp,
    ) -> Result<(Subject, Timestamp), LoginError> {
        if !(self.names)(statement.registry) {
            return Err(LoginError::Elsewhere);
        }
        let expires = self.tokens.read_nonce(statement.nonce, now);
        let expires = expires.map_err(|_| LoginError::Nonce)?;
        let signature = SshSig::from_pem(signature).map_err(|_| LoginError::NoSignature)?;
        let signer = ssh_login::signer(&signature).ok_or(LoginError::NoSignature)?;
        let key = self.key(&signer).ok_or(LoginError::Unknown)?;
        ssh_login::prove(&key, statement, &signature, now)?;
        Ok((Subject::Key(signer), expires))
    }

    /// Returns a token that others can be had with; nobody in particular needs none.
    pub fn refresh_token(&self, proven: &Proven, now: Timestamp) -> Option<String> {
        let life = match proven.subject {
            Subject::Anonymous => return None,
            Subject::Key(_) => REFRESH_LIFE,
            Subject::User(_) => PASSWORD_REFRESH_LIFE,
        };
        Some(self.tokens.refresh(proven, now, life))
    }

    /// Returns who a token is of that others can be had with.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::Foreign`] also for somebody who is not known any more.
    pub fn refreshed(&self, token: &str, now: Timestamp) -> Result<Proven, TokenError> {
        let proven = self.tokens.read_refresh(token, now)?;
        self.grant(&proven, now).ok_or(TokenError::Foreign)?;
        Ok(proven)
    }

    /// Returns what whoever shows a token may do at this time: what it says, as far as he still may.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::Foreign`] also for somebody who is not known any more.
    pub fn permit(&self, token: &str, now: Timestamp) -> Result<Permit, TokenError> {
        let access = self.tokens.read_access(token, now)?;
        let known = self.known();
        let grant = known.grant(&access.proven, now);
        let grant = grant.ok_or(TokenError::Foreign)?;
        let still = |scope: &Scope| Scope {
            actions: grant.allowed(scope),
            resource: scope.resource.clone(),
        };
        Ok(Permit {
            caller: known.caller(&access.proven.subject),
            scopes: access.scopes.iter().map(still).collect(),
        })
    }

    /// Whether whoever shows a token could have one for this, whatever this one is for.
    pub fn could(&self, token: &str, wanted: &Scope, now: Timestamp) -> bool {
        let Ok(access) = self.tokens.read_access(token, now) else {
            return false;
        };
        let known = self.known();
        let grant = known.grant(&access.proven, now);
        grant.is_some_and(|grant| grant.allowed(wanted) == wanted.actions)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{auth::Role, identity::Identity, store::Store};

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q";
    const SHOWN: &str = "SHA256:FHsTyFHNmvNpw4o7+rp+M1yqMyBF8vXSBRkZtkQ0RKY";

    struct Place {
        directory: tempfile::TempDir,
        sources: Sources,
    }

    impl Place {
        fn new(operators: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("operators");
            fs::write(&path, operators).unwrap();
            let sources = Sources {
                operators: Some(path),
                anonymous: Some(Role::Read),
                ..Sources::default()
            };
            Self { directory, sources }
        }

        fn gatekeeper(&self) -> Result<Gatekeeper, SourcesError> {
            let names = Box::new(|name: &str| name == "localhost:2022");
            let tokens = Tokens::of(&Identity::generate());
            let nonces = UsedNonces::of(&Store::memory(), false);
            Gatekeeper::new(tokens, names, nonces, &self.sources)
        }
    }

    fn scopes(texts: &[&str]) -> Vec<Scope> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn tokens_are_for_what_somebody_may_and_no_longer_than_he_is_known() {
        let place = Place::new(&format!("repository=\"configs/*\" {ED25519} jane"));
        let gatekeeper = place.gatekeeper().unwrap();
        let (now, jane) = (Timestamp::now(), Subject::Key(SHOWN.parse().unwrap()));
        let wanted = scopes(&["repository:configs/a:pull,push", "repository:other:pull"]);
        let (token, _) = gatekeeper
            .token(&jane.clone().into(), &wanted, now)
            .unwrap();
        let permit = gatekeeper.permit(&token, now).unwrap();
        assert_eq!(permit.caller().subject, jane);
        assert_eq!(permit.caller().comment, "jane");
        assert!(permit.allows(&wanted[0]) && !permit.allows(&wanted[1]));
        assert!(!permit.allows(&"repository:configs/a:delete".parse().unwrap()));
        // Nobody in particular.
        let (token, _) = gatekeeper
            .token(&Proven::anonymous(), &wanted, now)
            .unwrap();
        let permit = gatekeeper.permit(&token, now).unwrap();
        assert!(permit.allows(&wanted[1]) && !permit.allows(&wanted[0]));
        let stranger = Subject::User("joe".to_owned()).into();
        assert!(gatekeeper.token(&stranger, &wanted, now).is_none());
        // Narrowed, and then gone.
        let (token, _) = gatekeeper
            .token(&jane.clone().into(), &wanted, now)
            .unwrap();
        let path = place.sources.operators.as_ref().unwrap();
        fs::write(path, format!("repository=\"configs/b\" {ED25519}")).unwrap();
        gatekeeper.reload(&place.sources).unwrap();
        assert!(!gatekeeper.permit(&token, now).unwrap().allows(&wanted[0]));
        fs::write(path, format!("expiry-time=\"20200101Z\" {ED25519}")).unwrap();
        gatekeeper.reload(&place.sources).unwrap();
        assert_eq!(gatekeeper.permit(&token, now), Err(TokenError::Foreign));
        // What is of no use changes nothing.
        fs::write(path, "garbage").unwrap();
        let error = gatekeeper.reload(&place.sources).unwrap_err();
        assert!(error.to_string().ends_with("operators`"), "{error}");
        let line = std::error::Error::source(&error).unwrap().to_string();
        assert!(line.starts_with("line 1: "), "{line}");
        assert!(gatekeeper.key(&SHOWN.parse().unwrap()).is_some());
    }

    #[test]
    fn files_without_anybody_are_refused() {
        let mut place = Place::new("# nobody\n");
        let error = place.gatekeeper().map(drop).unwrap_err();
        assert!(matches!(error, SourcesError::Empty { .. }), "{error}");
        fs::remove_file(place.sources.operators.as_ref().unwrap()).unwrap();
        let error = place.gatekeeper().map(drop).unwrap_err();
        assert!(matches!(error, SourcesError::File { .. }), "{error}");
        fs::write(place.sources.operators.as_ref().unwrap(), ED25519).unwrap();
        let services = place.directory.path().join("services");
        fs::write(&services, ED25519).unwrap();
        place.sources.services = Some(services);
        let error = place.gatekeeper().map(drop).unwrap_err();
        assert!(error.to_string().contains(SHOWN), "{error}");
    }
}
