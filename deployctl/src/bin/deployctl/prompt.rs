//! What is asked for on the terminal: secrets, which are not shown as they are typed.

use std::{io::IsTerminal as _, path::Path};

use deployctl::client::Secret;

/// Returns the passphrase of a key, as somebody types it; nothing where nobody is there.
pub(crate) fn passphrase(path: &Path) -> Option<Secret> {
    secret(&format!("Passphrase of {}: ", path.display()))
}

/// Returns what somebody types; nothing where nobody is there.
pub(crate) fn secret(question: &str) -> Option<Secret> {
    if !std::io::stderr().is_terminal() && !std::io::stdin().is_terminal() {
        return None;
    }
    rpassword::prompt_password(question).ok().map(Secret::new)
}
