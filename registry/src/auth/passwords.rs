//! Whether somebody knows his password: checked by bcrypt, which takes long so that guessing does,
//! and remembered for some minutes, so that clients that ask for a token for every request do not
//! wait. Used by `gatekeeper`, on threads that may be busy for long.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

use super::{KnownUser, KnownUsers};

/// How long it is remembered that somebody knew his password.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How many are remembered at once, in about 1 MiB.
const REMEMBERED_MAX: usize = 10_000;
/// As many bytes of a password bcrypt looks at.
const BYTES_MAX: usize = 72;
/// What passwords of nobody are hashed with.
const SALT: [u8; 16] = *b"nobody's salt...";

/// A password that somebody sent. Shown nowhere.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Returns the password that the text is.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password")
    }
}

/// The users of a file as it was read once, and who of them was here. Another file is another one of
/// these: nothing is remembered of it.
pub(super) struct Passwords {
    users: KnownUsers,
    /// The most that checking costs for any of them.
    cost: u32,
    /// What passwords that were right are remembered under; nobody else can compute it.
    secret: [u8; 32],
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self::of(KnownUsers::default())
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Passwords({})", self.users.len())
    }
}

impl Passwords {
    /// Returns what checks the passwords of these users.
    pub(super) fn of(users: KnownUsers) -> Self {
        let costs = users.values().map(|user| user.cost);
        Self {
            cost: costs.max().unwrap_or_default(),
            users,
            secret: rand::random(),
            remembered: Mutex::default(),
        }
    }

    /// Returns a user.
    pub(super) fn user(&self, name: &str) -> Option<&KnownUser> {
        self.users.get(name)
    }

    /// Whether this was his password some minutes ago.
    pub(super) fn is_remembered(&self, name: &str, password: &Password, now: Instant) -> bool {
        let remembered = self.remembered();
        let until = remembered.get(&self.key(name, password));
        until.is_some_and(|until| now < *until)
    }

    /// Whether this is his password; remembers it if so. Takes as long for somebody whom nobody knows
    /// as for anybody who sends a wrong one: up to seconds, as the file has it.
    pub(super) fn check(&self, name: &str, password: &Password, now: Instant) -> bool {
        // What is behind a zero or the last byte that counts would not matter, and nobody would know.
        let bytes = password.0.as_bytes();
        if bytes.len() > BYTES_MAX || bytes.contains(&0) {
            return false;
        }
        let Some(user) = self.users.get(name) else {
            self.spend(self.cost, bytes);
            return false;
        };
        if !matches!(bcrypt::verify(bytes, &user.hash), Ok(true)) {
            // A step of the cost doubles it: together they are as much as the most.
            for cost in user.cost..self.cost {
                self.spend(cost, bytes);
            }
            return false;
        }
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, until| now < *until);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(self.key(name, password), now + REMEMBERED);
        }
        true
    }

    /// Does what checking a password of this cost takes.
    fn spend(&self, cost: u32, password: &[u8]) {
        // It fails without any users: then nobody can find out who is none.
        let hashed = bcrypt::hash_with_salt(password, cost, SALT);
        drop(std::hint::black_box(hashed));
    }

    fn key(&self, name: &str, password: &Password) -> [u8; 32] {
        let length = u64::try_from(name.len()).unwrap_or(u64::MAX);
        Sha256::new()
            .chain_update(self.secret)
            .chain_update(length.to_le_bytes())
            .chain_update(name)
            .chain_update(&password.0)
            .finalize()
            .into()
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::parse_users, *};

    /// What crypt(3) makes of `secret`, and of 72 times `x`.
    const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
    const LONG: &str = "$2y$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q";

    fn passwords() -> Passwords {
        let text = format!("jane:{SECRET}\nlong:{LONG}");
        Passwords::of(parse_users(&text).unwrap())
    }

    #[test]
    fn passwords_are_known_and_remembered_for_some_time() {
        let (passwords, now) = (passwords(), Instant::now());
        let right = Password::new("secret");
        assert!(!passwords.is_remembered("jane", &right, now));
        assert!(passwords.check("jane", &right, now));
        for (name, password) in [("jane", "Secret"), ("jane", ""), ("joe", "secret")] {
            let password = Password::new(password);
            assert!(!passwords.check(name, &password, now), "{name}");
            assert!(!passwords.is_remembered(name, &password, now), "{name}");
        }
        assert!(!passwords.check("long", &right, now));
        assert!(passwords.is_remembered("jane", &right, now));
        assert!(!passwords.is_remembered("janes", &Password::new("ecret"), now));
        assert!(!passwords.is_remembered("jane", &right, now + REMEMBERED));
        assert_eq!(format!("{right:?}"), "Password");
    }

    #[test]
    fn nothing_that_would_be_cut_off_is_a_password() {
        let (passwords, now) = (passwords(), Instant::now());
        let x = |times| Password::new(&"x".repeat(times));
        assert!(passwords.check("long", &x(72), now));
        assert!(!passwords.check("long", &x(73), now));
        assert!(!passwords.check("long", &x(71), now));
        assert!(!passwords.check("jane", &Password::new("secret\0more"), now));
    }

    #[test]
    fn memory_is_bounded_whoever_comes() {
        let (passwords, now) = (passwords(), Instant::now());
        for number in 0..REMEMBERED_MAX + 1 {
            let name = number.to_string();
            let key = passwords.key(&name, &Password::new(""));
            passwords.remembered().insert(key, now + REMEMBERED);
        }
        let right = Password::new("secret");
        assert!(passwords.check("jane", &right, now));
        assert!(!passwords.is_remembered("jane", &right, now));
        let later = now + REMEMBERED;
        assert!(passwords.check("jane", &right, later));
        assert_eq!(passwords.remembered().len(), 1);
    }
}
