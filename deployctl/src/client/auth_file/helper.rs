//! Credential helpers: programs `docker-credential-NAME` that keep credentials for others
//! (docker-credential-helpers' protocol: a word, a server on standard input, JSON back).

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::{Credentials, CredentialsError, credentials};

/// What helpers say of a server that they do not know.
const UNKNOWN: &str = "credentials not found";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(default)]
    username: String,
    secret: String,
}

/// Asks a helper for a server's credentials; anonymous ones where it knows none.
pub(super) fn ask(name: &str, server: &str) -> Result<Credentials, CredentialsError> {
    let failed = |reason: String| CredentialsError::Helper {
        name: name.to_owned(),
        server: server.to_owned(),
        reason,
    };
    // It becomes the name of a program.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(fits) {
        return Err(failed("that is no name of a helper".to_owned()));
    }
    let output = run(name, server).map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains(UNKNOWN) {
            return Ok(Credentials::Anonymous);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let said = [complaint.trim(), said.trim()].join(" ");
        return Err(failed(format!("{} {}", output.status, said.trim())));
    }
    // What it says is a secret, and no message shows it.
    let kept: Kept = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("it did not answer as helpers do".to_owned()))?;
    Ok(credentials(kept.username, kept.secret))
}

fn run(name: &str, server: &str) -> io::Result<std::process::Output> {
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read it may still answer.
        let _ = writeln!(input, "{server}");
    }
    child.wait_with_output()
}
