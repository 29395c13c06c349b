//! Files of users and their passwords, as `htpasswd -B` writes them; a third field says what a user
//! may do. Pure; read by `gatekeeper`.

use std::{collections::HashMap, fmt};

use bcrypt::HashParts;
use deploy_spec::{Digest, openssh::options};

use super::{
    Grant, Role,
    options::{COSTS, Fault, LineError, narrow},
};

/// As much as `htpasswd` takes.
const NAME_MAX: usize = 255;
/// What clients send as the name where they have a token and no password.
pub(crate) const TOKEN_USER: &str = "<token>";
/// As many digits tell two passwords of a user apart.
const TAG_DIGITS: usize = 16;

/// A user, and what he may do.
#[derive(Clone, PartialEq, Eq)]
pub struct KnownUser {
    /// What his password is checked against.
    pub(super) hash: String,
    /// The logarithm of what that takes, to the base of 2.
    pub(super) cost: u32,
    /// What stands for the password in tokens, so that they are none any more when it is another one.
    /// It tells nothing of it: the hash has a salt that nobody else knows.
    pub(super) tag: String,
    /// What may be done with the password.
    pub grant: Grant,
}

impl fmt::Debug for KnownUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KnownUser")
            .field("cost", &self.cost)
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

/// The users of a file, by name.
pub type KnownUsers = HashMap<String, KnownUser>;

/// Reads a file's text.
///
/// # Errors
/// [`LineError`] for the first line that is wrong.
pub fn parse(text: &str) -> Result<KnownUsers, LineError> {
    let mut users = KnownUsers::new();
    let mut lines = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = number + 1;
        let wrong = |fault| LineError {
            line: number,
            fault,
        };
        let (name, user) = parse_line(line).map_err(wrong)?;
        if let Some(line) = lines.insert(name.to_owned(), number) {
            let user = name.to_owned();
            return Err(wrong(Fault::UserTwice { user, line }));
        }
        users.insert(name.to_owned(), user);
    }
    Ok(users)
}

fn parse_line(line: &str) -> Result<(&str, KnownUser), Fault> {
    let (name, rest) = line.split_once(':').ok_or(Fault::User)?;
    let (hash, behind) = rest.split_once(':').unwrap_or((rest, ""));
    if name.is_empty() || hash.is_empty() {
        return Err(Fault::User);
    }
    if name == TOKEN_USER || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(Fault::Name(name.escape_debug().to_string()));
    }
    let cost = cost(hash).map_err(|kind| Fault::Hash {
        user: name.to_owned(),
        kind,
    })?;
    if !COSTS.contains(&cost) {
        let user = name.to_owned();
        return Err(Fault::Cost { user, cost });
    }
    let mut grant = Grant::of(Role::Read);
    for (option, value) in options(behind.trim()) {
        let option = option.trim();
        match (option.to_ascii_lowercase().as_str(), value) {
            ("read", None) => grant.role = Role::Read,
            ("write", None) => grant.role = Role::Write,
            _ if narrow(&mut grant, option, value.map(str::trim))? => {}
            _ => return Err(Fault::UserOption(option.to_owned())),
        }
    }
    let user = KnownUser {
        hash: hash.to_owned(),
        cost,
        tag: Digest::sha256(hash.as_bytes()).hex()[..TAG_DIGITS].to_owned(),
        grant,
    };
    Ok((name, user))
}

/// Returns what checking takes, or what this is instead of a hash of bcrypt.
fn cost(hash: &str) -> Result<u32, &'static str> {
    let is_crypt = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    let known = ["$2y$", "$2b$", "$2a$"];
    match hash {
        _ if known.iter().any(|kind| hash.starts_with(kind)) => (hash.parse::<HashParts>())
            .map(|parts| parts.get_cost())
            .map_err(|_| "something like a hash of bcrypt that is none"),
        _ if hash.starts_with("$2") => Err("a hash of an early bcrypt with a known fault"),
        _ if hash.starts_with("$apr1$") || hash.starts_with("$1$") => Err("MD5"),
        _ if hash.starts_with("{SHA}") => Err("SHA-1"),
        _ if hash.starts_with("$5$") || hash.starts_with("$6$") => Err("SHA-2 of crypt(3)"),
        _ if hash.len() == 13 && hash.bytes().all(is_crypt) => Err("DES of crypt(3)"),
        _ => Err("no hash of bcrypt"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Pattern, *};

    /// What crypt(3) makes of `secret`.
    const HASH: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

    fn fault(line: &str) -> Fault {
        parse(line).unwrap_err().fault
    }

    #[test]
    fn users_read_unless_the_line_says_more() {
        let text = format!(
            "# people\n\njane:{HASH}\r\n  joe o'neill:{HASH}:write\nrobot:{HASH}:write, repository=\"configs/*, a\",expiry-time=\"20300102Z\"\nend:{HASH}:\nread:{HASH}:Read\n"
        );
        let users = parse(&text).unwrap();
        assert_eq!(users.len(), 5);
        for reader in ["jane", "end", "read"] {
            assert_eq!(users[reader].grant, Grant::of(Role::Read), "{reader}");
        }
        assert_eq!(users["joe o'neill"].grant, Grant::of(Role::Write));
        let expected = Grant {
            role: Role::Write,
            repositories: Some(["configs/*", "a"].map(Pattern::new).to_vec()),
            expires: Some("2030-01-02T00:00:00Z".parse().unwrap()),
        };
        assert_eq!(users["robot"].grant, expected);
        let shown = format!("{:?}", users["jane"]);
        assert!(!shown.contains("$2y$"), "{shown}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_the_hash() {
        let error = parse(&format!("a:{HASH}\n\nb:{HASH}\na:{HASH}:write")).unwrap_err();
        let (user, line) = ("a".to_owned(), 1);
        let twice = Fault::UserTwice { user, line };
        assert_eq!((error.line, error.fault), (4, twice));
        for line in ["jane", ":", "jane:", &format!(":{HASH}"), HASH] {
            assert_eq!(fault(line), Fault::User, "{line}");
        }
        for name in ["<token>", "a\u{1b}b", &"x".repeat(256)] {
            let found = fault(&format!("{name}:{HASH}"));
            assert!(matches!(found, Fault::Name(_)), "{name}");
            assert!(!found.to_string().contains('\u{1b}'));
        }
        for (hash, said) in [
            ("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "MD5"),
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1"),
            ("$6$salt$hash", "SHA-2"),
            ("rqXexS6ZhobKA", "DES"),
            ("secret", "no hash"),
            (&HASH.replace("$2y$", "$2x$"), "early"),
            (&HASH[..59], "that is none"),
            (&HASH.replace("$04$", "$xx$"), "that is none"),
        ] {
            let error = parse(&format!("jane:{hash}")).unwrap_err().to_string();
            assert!(
                error.starts_with("line 1: the password of `jane`"),
                "{error}"
            );
            assert!(error.contains(said) && !error.contains(hash), "{error}");
        }
        for cost in ["03", "18", "31"] {
            let found = fault(&format!(
                "jane:{}",
                HASH.replace("$04$", &format!("${cost}$"))
            ));
            assert!(matches!(found, Fault::Cost { .. }), "{found}");
        }
        for option in ["admin", "write=\"x\"", "repository", "from=\"10.*\""] {
            let name = option.split('=').next().unwrap().to_owned();
            let found = fault(&format!("jane:{HASH}:{option}"));
            assert_eq!(found, Fault::UserOption(name));
        }
        let found = fault(&format!("jane:{HASH}:repository=\"a"));
        assert!(matches!(found, Fault::Quotes(_)), "{found}");
        let found = fault(&format!("jane:{HASH}:expiry-time=\"soon\""));
        assert!(matches!(found, Fault::Value { .. }), "{found}");
    }

    #[test]
    fn another_password_has_another_tag() {
        let users = parse(&format!(
            "a:{HASH}\nb:{HASH}:write\nc:{}",
            HASH.replace("2r9", "3r9")
        ));
        let users = users.unwrap();
        assert_eq!(users["a"].tag, users["b"].tag);
        assert_ne!(users["a"].tag, users["c"].tag);
        assert_eq!(users["a"].tag.len(), TAG_DIGITS);
    }
}
