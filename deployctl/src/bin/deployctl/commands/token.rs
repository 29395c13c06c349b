//! `deployctl token [-scope SCOPE…]`

use anyhow::{Context as _, Result, bail};
use deployctl::client::Registry;
use serde::Serialize;

use crate::{arguments::Token, printer::Printer};

#[derive(Serialize)]
struct Given {
    token: String,
    /// Seconds.
    expires_in: u64,
}

pub(super) async fn run(registry: &Registry, verb: &Token, printer: &Printer) -> Result<()> {
    let address = registry.address();
    let Some(login) = registry.log_in(&verb.scopes).await? else {
        bail!("`{address}` asks nobody who he is: it takes requests without a token");
    };
    let (token, life) = login.token.with_context(|| {
        format!("`{address}` has no tokens: it asks for user and password with each request")
    })?;
    let given = Given {
        token: token.reveal().to_owned(),
        expires_in: life.as_secs(),
    };
    printer.result(&given, |given| format!("{}\n", given.token))?;
    Ok(())
}
