//! Letting somebody in: what he proves himself with, and what becomes of him who cannot. Asked by the
//! token endpoint.

use std::{net::IpAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use deploy_spec::login::Statement;
use jiff::Timestamp;
use ssh_key::SshSig;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    Gatekeeper, LoginError, Password, Proven, Subject, TokenError,
    guesses::{Guesses, Verdict},
    ssh_login,
};
use crate::store::causes;

/// How long a password waits to be checked where many are.
const PATIENCE: Duration = Duration::from_secs(10);
/// More characters of a name are not logged.
const NAME_SHOWN: usize = 64;

/// How somebody wants to be let in.
#[derive(Debug)]
pub(crate) enum Proof<'a> {
    /// Not at all: as nobody in particular.
    Nothing,
    /// By what only he knows.
    Password {
        /// Who he says he is.
        name: &'a str,
        /// His password.
        password: Password,
    },
    /// By a token that he got when he was let in before.
    Refresh(&'a str),
    /// By a key that only he has.
    Signature {
        /// What was signed.
        statement: Statement<'a>,
        /// By the key that it says itself.
        signature: &'a str,
    },
    /// By something that is nothing of the kind.
    Garbage,
}

impl Proof<'_> {
    /// Returns who somebody says he is, fit for a log; nothing where he does not say it.
    pub(crate) fn claimed(&self) -> Option<String> {
        match self {
            Self::Password { name, .. } => {
                let shown: String = name.chars().take(NAME_SHOWN).collect();
                Some(format!("user:{}", shown.escape_debug()))
            }
            Self::Signature { signature, .. } => {
                let signature = SshSig::from_pem(signature).ok()?;
                let signer = ssh_login::signer(&signature)?;
                Some(Subject::Key(signer).to_string())
            }
            Self::Nothing | Self::Refresh(_) | Self::Garbage => None,
        }
    }

    /// Whose secret it could be a guess at; nothing where nobody guesses such a thing.
    fn guessed(&self) -> &str {
        match self {
            Self::Password { name, .. } => name,
            _ => "",
        }
    }
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Nobody in particular may do nothing here.
    #[error("nothing is done here without a key or a password")]
    Nobody,
    /// It cannot be read.
    #[error("the credentials cannot be read")]
    Garbage,
    /// There is no such user, or he has another password.
    #[error("no user has this name and this password")]
    Password,
    /// The signature proves nothing.
    #[error(transparent)]
    Signature(#[from] LoginError),
    /// The token is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// His time is over.
    #[error("what he had is no longer good")]
    Expired,
}

/// What becomes of somebody who is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// He is told so, after a while.
    Refused {
        /// Why, which is nothing that he is told.
        fault: Fault,
        /// How long he waits.
        wait: Duration,
    },
    /// His client failed too often, and is not listened to for so long.
    HeldOff(Duration),
    /// Too many want to be let in at this moment.
    Busy(Duration),
    /// It cannot be noted that what he proves himself with is used up.
    Unnoted,
}

/// Holds back who guesses, and how many passwords are checked at once.
#[derive(Debug)]
pub(super) struct Door {
    guesses: Guesses,
    /// On some of the cores, so that others serve.
    checks: Arc<Semaphore>,
}

impl Default for Door {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            guesses: Guesses::new(now()),
            checks: Arc::new(Semaphore::new(cores.div_ceil(2))),
        }
    }
}

/// The clock of the runtime, which tests set.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

impl Gatekeeper {
    /// Returns who somebody is, where he is known and proves it.
    ///
    /// A client that failed often is not listened to for a while; but whoever has a token or a key,
    /// which nobody guesses, is let in all the same.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) async fn enter(
        &self,
        client: IpAddr,
        proof: &Proof<'_>,
        time: Timestamp,
    ) -> Result<Proven, Denied> {
        let proven = match proof {
            Proof::Nothing => Ok(Proven::anonymous()),
            Proof::Garbage => Err(Fault::Garbage),
            Proof::Password { name, password } => self.password(client, name, password).await?,
            Proof::Refresh(token) => self.refreshed(token, time).map_err(Fault::from),
            Proof::Signature {
                statement,
                signature,
            } => self.signature(statement, signature, time).await?,
        };
        let known = proven.and_then(|proven| match self.grant(&proven, time) {
            Some(_) => Ok(proven),
            None if matches!(proof, Proof::Nothing) => Err(Fault::Nobody),
            None => Err(Fault::Expired),
        });
        let guesses = &self.door.guesses;
        match known {
            Ok(proven) => {
                if !matches!(proof, Proof::Nothing) {
                    guesses.succeeded(client, proof.guessed(), now());
                }
                Ok(proven)
            }
            // Many clients ask in this way first.
            Err(fault @ Fault::Nobody) => Err(Denied::Refused {
                fault,
                wait: Duration::ZERO,
            }),
            Err(fault) => match guesses.failed(client, proof.guessed(), now()) {
                Verdict::Answered(wait) => Err(Denied::Refused { fault, wait }),
                Verdict::Refused(again) => Err(Denied::HeldOff(again)),
            },
        }
    }

    /// Returns who has the key that made a signature, which is good for this once.
    async fn signature(
        &self,
        statement: &Statement<'_>,
        signature: &str,
        now: Timestamp,
    ) -> Result<Result<Proven, Fault>, Denied> {
        let (subject, expires) = match self.signer(statement, signature, now) {
            Ok(signer) => signer,
            Err(wrong) => return Ok(Err(wrong.into())),
        };
        match self.nonces.first(statement.nonce, expires, now).await {
            Ok(true) => Ok(Ok(subject.into())),
            Ok(false) => Ok(Err(LoginError::Nonce.into())),
            Err(error) => {
                let cause = causes(&error);
                tracing::error!(cause, "cannot note that the nonce of a login is used");
                Err(Denied::Unnoted)
            }
        }
    }

    /// Returns a user who knows his password. It takes a while to find out, but nothing where it was
    /// found out some minutes ago; dropping it does not end that.
    async fn password(
        &self,
        client: IpAddr,
        name: &str,
        password: &Password,
    ) -> Result<Result<Proven, Fault>, Denied> {
        let listened_to = || match self.door.guesses.verdict(client, now()) {
            Verdict::Refused(again) => Err(Denied::HeldOff(again)),
            Verdict::Answered(_) => Ok(()),
        };
        listened_to()?;
        let known = self.known();
        let proven = known.passwords.user(name).map(|user| Proven {
            subject: Subject::User(name.to_owned()),
            password: Some(user.tag.clone()),
        });
        let proven = proven.ok_or(Fault::Password);
        if known.passwords.is_remembered(name, password, now()) {
            return Ok(proven);
        }
        let checks = Arc::clone(&self.door.checks);
        let place = timeout(PATIENCE, checks.acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(Denied::Busy(PATIENCE));
        };
        // Many of its guesses may have waited at once.
        listened_to()?;
        let (name, password, now) = (name.to_owned(), password.clone(), now());
        let check = move || {
            let _place = place;
            known.passwords.check(&name, &password, now)
        };
        match tokio::task::spawn_blocking(check).await {
            Ok(true) => Ok(proven),
            Ok(false) => Ok(Err(Fault::Password)),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::{
        super::{Role, Sources, Tokens, UsedNonces},
        *,
    };
    use crate::{identity::Identity, store::Store};

    /// What crypt(3) makes of `secret`, and of 72 times `x`.
    const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
    const LONG: &str = "$2y$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q";
    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    struct Place {
        _directory: tempfile::TempDir,
        path: PathBuf,
        sources: Sources,
        gatekeeper: Gatekeeper,
    }

    impl Place {
        fn new(users: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("users");
            fs::write(&path, users).unwrap();
            let sources = Sources {
                users: Some(path.clone()),
                anonymous: Some(Role::Read),
                ..Sources::default()
            };
            let names = Box::new(|name: &str| name == "localhost:2022");
            let tokens = Tokens::of(&Identity::generate());
            let nonces = UsedNonces::of(&Store::memory(), false);
            let gatekeeper = Gatekeeper::new(tokens, names, nonces, &sources).unwrap();
            Self {
                _directory: directory,
                path,
                sources,
                gatekeeper,
            }
        }

        fn rewrite(&self, users: &str) {
            fs::write(&self.path, users).unwrap();
            self.gatekeeper.reload(&self.sources).unwrap();
        }

        async fn enter(&self, proof: &Proof<'_>) -> Result<Proven, Denied> {
            self.gatekeeper.enter(CLIENT, proof, Timestamp::now()).await
        }
    }

    fn password<'a>(name: &'a str, password: &str) -> Proof<'a> {
        let password = Password::new(password);
        Proof::Password { name, password }
    }

    /// What everybody gets who is not let in, whatever is wrong.
    fn refused(denied: Result<Proven, Denied>) -> Fault {
        match denied {
            Err(Denied::Refused { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_end_with_the_password_that_they_were_had_with() {
        let place = Place::new(&format!("jane:{SECRET}:write\njoe:{LONG}"));
        let now = Timestamp::now();
        let jane = place.enter(&password("jane", "secret")).await.unwrap();
        assert_eq!(jane.subject, Subject::User("jane".to_owned()));
        let push = ["repository:a:push".parse().unwrap()];
        let tokens = || {
            let (token, _) = place.gatekeeper.token(&jane, &push, now).unwrap();
            (token, place.gatekeeper.refresh_token(&jane, now).unwrap())
        };
        let (access, refresh) = tokens();
        let may_push = || {
            place
                .gatekeeper
                .permit(&access, now)
                .unwrap()
                .allows(&push[0])
        };
        assert!(may_push());
        assert_eq!(
            place.enter(&Proof::Refresh(&refresh)).await,
            Ok(jane.clone())
        );
        // Another role is none of the password's business.
        place.rewrite(&format!("jane:{SECRET}"));
        assert!(!may_push());
        assert_eq!(
            place.enter(&Proof::Refresh(&refresh)).await,
            Ok(jane.clone())
        );
        let gone = [
            format!("jane:{LONG}:write"),
            format!("joe:{SECRET}:write"),
            format!("jane:{SECRET}:expiry-time=\"20200101Z\""),
        ];
        for users in gone {
            place.rewrite(&users);
            let permit = place.gatekeeper.permit(&access, now);
            assert_eq!(permit, Err(TokenError::Foreign), "{users}");
            let fault = refused(place.enter(&Proof::Refresh(&refresh)).await);
            assert_eq!(fault, Fault::Token(TokenError::Foreign), "{users}");
            // Also what was proved a moment before.
            assert!(place.gatekeeper.token(&jane, &push, now).is_none());
        }
        let fault = refused(place.enter(&password("jane", "secret")).await);
        assert_eq!(fault, Fault::Expired);
        // What a key or nobody proves is no password of his.
        place.rewrite(&format!("jane:{SECRET}"));
        let claimed = Proven::from(jane.subject.clone());
        assert_eq!(place.gatekeeper.grant(&claimed, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_guesses_is_held_off_and_nobody_else() {
        let place = Place::new(&format!("jane:{SECRET}"));
        let jane = place.enter(&password("jane", "secret")).await.unwrap();
        let refresh = place.gatekeeper.refresh_token(&jane, Timestamp::now());
        let refresh = refresh.unwrap();
        let mut answered = 0;
        let again = loop {
            match place.enter(&password("jane", "guess")).await {
                Err(Denied::Refused { .. }) => answered += 1,
                Err(Denied::HeldOff(again)) => break again,
                other => panic!("{other:?}"),
            }
            assert!(answered < 100);
        };
        assert!(answered > 3);
        // Not even the right one is listened to, nor what is remembered of it.
        let right = password("jane", "secret");
        assert_eq!(place.enter(&right).await, Err(Denied::HeldOff(again)));
        let bad = place.enter(&Proof::Refresh("bad")).await;
        assert_eq!(bad, Err(Denied::HeldOff(again)));
        // A token is no guess, nobody in particular is let in as ever, and so are others.
        assert!(place.enter(&Proof::Refresh(&refresh)).await.is_ok());
        assert!(place.enter(&Proof::Nothing).await.is_ok());
        let other = "2001:db8::1".parse().unwrap();
        let now = Timestamp::now();
        assert!(place.gatekeeper.enter(other, &right, now).await.is_ok());
        // After a while it may guess once more.
        tokio::time::advance(again).await;
        refused(place.enter(&password("jane", "guess")).await);
        assert!(matches!(place.enter(&right).await, Err(Denied::HeldOff(_))));
        tokio::time::advance(again).await;
        assert!(place.enter(&right).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_waits_for_nobody_until_the_file_is_read_again() {
        let place = Place::new(&format!("jane:{SECRET}"));
        let right = password("jane", "secret");
        let jane = place.enter(&right).await;
        assert!(jane.is_ok());
        let checks = &place.gatekeeper.door.checks;
        let all = u32::try_from(checks.available_permits()).unwrap();
        let taken = checks.acquire_many(all).await.unwrap();
        assert_eq!(place.enter(&right).await, jane);
        let unknown = password("joe", "secret");
        assert_eq!(place.enter(&unknown).await, Err(Denied::Busy(PATIENCE)));
        place.gatekeeper.reload(&place.sources).unwrap();
        assert_eq!(place.enter(&right).await, Err(Denied::Busy(PATIENCE)));
        drop(taken);
        assert_eq!(place.enter(&right).await, jane);
    }

    #[tokio::test]
    async fn nobody_in_particular_is_no_failure() {
        let mut place = Place::new(&format!("jane:{SECRET}"));
        place.sources.anonymous = None;
        place.gatekeeper.reload(&place.sources).unwrap();
        for _ in 0..50 {
            let fault = refused(place.enter(&Proof::Nothing).await);
            assert_eq!(fault, Fault::Nobody);
        }
        assert!(place.enter(&password("jane", "secret")).await.is_ok());
        assert_eq!(refused(place.enter(&Proof::Garbage).await), Fault::Garbage);
    }

    #[test]
    fn names_of_strangers_are_shown_as_they_are_and_not_at_length() {
        let long = format!("\u{1b}[2J{}", "x".repeat(1000));
        let shown = password(&long, "secret").claimed().unwrap();
        assert!(shown.starts_with("user:\\u{1b}[2J"), "{shown}");
        assert!(shown.len() < 100 && !shown.contains("secret"));
        assert_eq!(Proof::Refresh("secret").claimed(), None);
        assert!(!format!("{:?}", password("jane", "secret")).contains("secret"));
    }
}
