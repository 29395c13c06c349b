//! Files of public keys, as OpenSSH's `authorized_keys` (sshd(8)): who they belong to is their
//! comment, and options narrow what they may do. Pure; read by `keys`.

use std::collections::HashMap;

use deploy_spec::{
    Fingerprint,
    openssh::{options, split_options},
};
use ssh_key::PublicKey;

use super::{
    Grant, Role,
    options::{Fault, LineError, narrow},
};

/// Options that say nothing of what is done here: nobody opens a terminal or a tunnel.
const WITHOUT_MEANING: [&str; 15] = [
    "agent-forwarding",
    "environment",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-user-rc",
    "no-x11-forwarding",
    "permitlisten",
    "permitopen",
    "port-forwarding",
    "pty",
    "restrict",
    "tunnel",
    "user-rc",
    "x11-forwarding",
];

/// A key, and what whoever has it may do.
#[derive(Clone, Debug)]
pub struct KnownKey {
    /// The key.
    pub public: PublicKey,
    /// Whose it is, as its comment says; may be empty.
    pub comment: String,
    /// What may be done with it.
    pub grant: Grant,
    /// Whether somebody has to touch a security key for each signature.
    pub touch: bool,
    /// Whether that has to know who touched it (PIN, biometrics).
    pub verify: bool,
}

/// The keys of a file, by fingerprint.
pub type KnownKeys = HashMap<Fingerprint, KnownKey>;

/// Reads a file's text; all of its keys have the role.
///
/// # Errors
/// [`LineError`] for the first line that is wrong.
pub fn parse(text: &str, role: Role) -> Result<KnownKeys, LineError> {
    let mut keys = KnownKeys::new();
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
        let key = parse_line(line, role).map_err(wrong)?;
        let encoded = key.public.to_bytes().map_err(|_| wrong(Fault::Key))?;
        let fingerprint = Fingerprint::of_ssh_key(&encoded);
        if let Some(first) = lines.insert(fingerprint, number) {
            return Err(wrong(Fault::Twice(first)));
        }
        keys.insert(fingerprint, key);
    }
    Ok(keys)
}

fn parse_line(line: &str, role: Role) -> Result<KnownKey, Fault> {
    // As OpenSSH does it: what does not begin with a key begins with options.
    let (before, key) = match read_key(line) {
        Some(key) => ("", key),
        None => {
            let (options, rest) = split_options(line)?.ok_or(Fault::Key)?;
            (options, read_key(rest).ok_or(Fault::Key)?)
        }
    };
    let mut known = KnownKey {
        comment: key.comment().to_string(),
        public: key,
        grant: Grant::of(role),
        touch: true,
        verify: false,
    };
    for (name, value) in options(before) {
        known.narrow(name, value)?;
    }
    Ok(known)
}

/// The type, the key in base 64, and a comment with spaces of its own; any white space between.
fn read_key(line: &str) -> Option<PublicKey> {
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (encoded, comment) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let line = match comment.trim() {
        "" => format!("{kind} {encoded}"),
        comment => format!("{kind} {encoded} {comment}"),
    };
    PublicKey::from_openssh(&line).ok()
}

impl KnownKey {
    fn narrow(&mut self, name: &str, value: Option<&str>) -> Result<(), Fault> {
        if narrow(&mut self.grant, name, value)? {
            return Ok(());
        }
        let known = name.to_ascii_lowercase();
        match (known.as_str(), value) {
            ("no-touch-required", None) => self.touch = false,
            ("verify-required", None) => self.verify = true,
            (known, _) if WITHOUT_MEANING.contains(&known) => {}
            _ => return Err(Fault::Option(name.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use deploy_spec::openssh::QuotesError;

    use super::{super::Pattern, *};

    /// What `ssh-keygen` made, and what `ssh-keygen -l` says of it.
    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q";
    const SHOWN: &str = "SHA256:FHsTyFHNmvNpw4o7+rp+M1yqMyBF8vXSBRkZtkQ0RKY";

    fn one(line: &str) -> KnownKey {
        let keys = parse(line, Role::Write).unwrap();
        assert_eq!(keys.len(), 1, "{line}");
        keys.into_values().next().unwrap()
    }

    fn fault(line: &str) -> Fault {
        parse(line, Role::Write).unwrap_err().fault
    }

    #[test]
    fn files_are_read_as_openssh_does() {
        let text = format!("# people\n\n  {ED25519} jane@example with spaces\r\n");
        let keys = parse(&text, Role::Read).unwrap();
        let key = &keys[&SHOWN.parse().unwrap()];
        assert_eq!(key.comment, "jane@example with spaces");
        assert_eq!(key.grant, Grant::of(Role::Read));
        assert!(key.touch && !key.verify);
        assert_eq!(one(ED25519).comment, "");
        assert_eq!(one(&ED25519.replace(' ', "\t \t")).comment, "");
    }

    #[test]
    fn options_narrow_a_key() {
        let options =
            r#"restrict,repository="configs/a, configs/b*",no-pty,environment="A=\"x, y\"""#;
        let key = one(&format!("{options} {ED25519} jane"));
        let expected = ["configs/a", "configs/b*"].map(Pattern::new);
        assert_eq!(key.grant.repositories, Some(expected.to_vec()));
        let key = one(&format!(r#"repository="a",Repository="b" {ED25519}"#));
        assert_eq!(
            key.grant.repositories,
            Some(["a", "b"].map(Pattern::new).to_vec())
        );
        let key = one(&format!("no-touch-required,verify-required {ED25519}"));
        assert!(!key.touch && key.verify);
        for (text, expected) in [
            ("20300102Z", "2030-01-02T00:00:00Z"),
            ("203001020304Z", "2030-01-02T03:04:00Z"),
            ("20300102030405z", "2030-01-02T03:04:05Z"),
        ] {
            let key = one(&format!(
                r#"expiry-time="{text}",expiry-time="20990101Z" {ED25519}"#
            ));
            assert_eq!(key.grant.expires, Some(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = format!("{ED25519}\n\nssh-ed25519 AAAA bad\n");
        let error = parse(&text, Role::Read).unwrap_err();
        assert_eq!((error.line, error.fault), (3, Fault::Key));
        let error = parse(&format!("{ED25519} a\n{ED25519} b"), Role::Read).unwrap_err();
        assert_eq!((error.line, error.fault), (2, Fault::Twice(1)));
        for line in ["x", "no-pty", "ssh-dss AAAA", "repository=\"a\" nothing"] {
            assert_eq!(fault(line), Fault::Key, "{line}");
        }
        assert_eq!(
            fault(&format!("repository=\"a {ED25519}")),
            Fault::Quotes(QuotesError)
        );
        assert_eq!(
            fault(&format!("repository=a {ED25519}")),
            Fault::Quotes(QuotesError)
        );
        for option in [
            "command=\"x\"",
            "from=\"10.*\"",
            "cert-authority",
            "repositry=\"a\"",
            "repository",
        ] {
            let name = option.split('=').next().unwrap().to_owned();
            assert_eq!(fault(&format!("{option} {ED25519}")), Fault::Option(name));
        }
        for value in ["2030", "20301301Z", "2030010Z", "tomorrow", ""] {
            let found = fault(&format!("expiry-time=\"{value}\" {ED25519}"));
            assert!(matches!(found, Fault::Value { .. }), "{value}");
        }
    }
}
