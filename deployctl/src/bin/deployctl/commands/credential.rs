//! `deployctl credential get|list|store|erase`: what `docker-credential-deployctl` is. Answers on
//! standard output, errors too, as the protocol of Docker's credential helpers has it.

use std::{collections::BTreeMap, io::Read as _};

use anyhow::{Context as _, Result, bail};
use deployctl::connect::Connection;
use serde::Serialize;

use crate::{
    arguments::{Credential, CredentialAction},
    printer::print,
    settings,
};

/// The user under which clients take a secret for a refresh token.
const TOKEN: &str = "<token>";
/// What clients know as: go on without.
const UNKNOWN: &str = "credentials not found in native keychain";
/// More than any name of a server has.
const NAME_MAX: u64 = 4096;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL")]
    server_url: String,
    username: &'static str,
    secret: String,
}

pub(super) async fn run(verb: &Credential) -> Result<()> {
    match answer(&verb.action).await {
        Ok(Some(answer)) => Ok(print(format!("{answer}\n").as_bytes())?),
        Ok(None) => Ok(()),
        // Clients show what is on standard output, and nothing else.
        Err(error) => {
            print(format!("{error:#}\n").as_bytes())?;
            Err(error)
        }
    }
}

async fn answer(action: &CredentialAction) -> Result<Option<String>> {
    match action {
        CredentialAction::Get => get().await.map(Some),
        CredentialAction::List => {
            let known = settings::known().all()?;
            let list = known.into_keys().map(|server| (server, TOKEN));
            let list: BTreeMap<String, &str> = list.collect();
            Ok(Some(serde_json::to_string(&list)?))
        }
        CredentialAction::Store => {
            bail!("this helper keeps no passwords: it signs with SSH keys; use `deployctl login`")
        }
        // What others stored here would have been refused.
        CredentialAction::Erase => Ok(None),
    }
}

async fn get() -> Result<String> {
    let mut server = String::new();
    let read = std::io::stdin().take(NAME_MAX).read_to_string(&mut server);
    read.context("cannot read the name of the server")?;
    let server = server.trim().to_owned();
    let host = server.split_once("://").map_or(&*server, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    let Some(known) = settings::known().all()?.remove(host) else {
        bail!(UNKNOWN);
    };
    let connection = Connection::of(&known, &settings::surroundings())?;
    let login = connection.registry()?.log_in(&[]).await?;
    let Some(refresh) = login.and_then(|login| login.refresh) else {
        bail!(UNKNOWN);
    };
    let kept = Kept {
        server_url: server,
        username: TOKEN,
        secret: refresh.reveal().to_owned(),
    };
    Ok(serde_json::to_string(&kept)?)
}
