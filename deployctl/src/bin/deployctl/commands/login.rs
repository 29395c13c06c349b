//! `deployctl login [-user NAME [-password-stdin]]`

use anyhow::{Context as _, Result, bail};
use deployctl::{
    client::{self, Credentials, Secret},
    connect::{Connection, Known},
};
use serde::Serialize;

use crate::{
    arguments::{Global, Login},
    printer::Printer,
    prompt, settings,
};

#[derive(Serialize)]
struct LoggedIn {
    registry: String,
    /// Who, as far as this program knows.
    with: String,
    /// The file that container clients read.
    file: String,
}

pub(super) async fn run(global: &Global, verb: &Login, printer: &Printer) -> Result<()> {
    let mut connection = settings::connection(global)?;
    connection.credentials = credentials(verb, &connection)?;
    let registry = connection.registry()?;
    // Nothing is kept that does not work.
    let login = registry.log_in(&[]).await?;
    let Connection {
        address,
        credentials,
        fingerprint,
        key,
        unfinished: _,
    } = &connection;
    if login.is_none() {
        bail!("`{address}` asks nobody who he is: there is nothing to log in to");
    }
    let with = match credentials {
        Credentials::Basic { username, .. } => format!("user {username}"),
        Credentials::Key(key) => format!("key {}", key.fingerprint()),
        Credentials::Agent(_) => "a key of the ssh-agent".to_owned(),
        Credentials::Refresh(_) => "a token".to_owned(),
        Credentials::Anonymous => bail!(
            "there is nothing to log in with\nhint: name an SSH key with -key, start an ssh-agent, or give -user"
        ),
    };
    let variable = |name: &str| std::env::var_os(name);
    let file = client::store(address, credentials, variable)?;
    let known = Known {
        address: address.to_string(),
        fingerprint: *fingerprint,
        key: match credentials {
            Credentials::Key(_) => {
                let absolute = key.as_deref().map(std::path::absolute).transpose();
                absolute.context("find the key again")?
            }
            _ => None,
        },
    };
    settings::known().remember(address, known)?;
    let done = LoggedIn {
        registry: address.authority(),
        with,
        file: file.display().to_string(),
    };
    printer.result(&done, |done| {
        format!("{}: logged in with {}\n", done.registry, done.with)
    })?;
    Ok(())
}

fn credentials(verb: &Login, connection: &Connection) -> Result<Credentials> {
    let Some(username) = verb.user.clone() else {
        return Ok(
            match (&connection.credentials, settings::surroundings().agent()) {
                (Credentials::Key(key), _) => Credentials::Key(key.clone()),
                (_, Some(agent)) => Credentials::Agent(agent),
                (_, None) => Credentials::Anonymous,
            },
        );
    };
    let password = match verb.password_stdin {
        true => {
            let mut password = String::new();
            let read = std::io::stdin().read_line(&mut password);
            read.context("cannot read the password from standard input")?;
            Secret::new(password.trim_end_matches(['\r', '\n']))
        }
        false => prompt::secret(&format!("Password of {username}: ")).context(
            "there is nobody to ask for the password\nhint: -password-stdin reads it from standard input",
        )?,
    };
    Ok(Credentials::Basic { username, password })
}
