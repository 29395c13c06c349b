//! The verbs, a file each: parse (done), call one operation, print.

mod addconf;
mod addver;
mod audit;
mod bumpconf;
mod certificate;
mod changeconf;
mod completions;
mod components;
mod configurations;
mod credential;
mod delcomp;
mod delconf;
mod delver;
mod login;
mod logout;
mod man;
mod push;
mod showcomp;
mod showconf;
mod sign;
mod token;
mod verify;

use anyhow::Result;
use deploy_spec::ReleaseNumber;
use deployctl::ops::Outcome;
use serde::Serialize;

use crate::{
    arguments::{Arguments, ReleaseFlags, Verb},
    printer::Printer,
    settings,
};

/// Carries out one verb.
pub(crate) async fn run(arguments: Arguments, printer: &Printer) -> Result<()> {
    let global = &arguments.global;
    let project = || settings::project(global, None);
    let maker = async |flags: &ReleaseFlags| {
        let author = flags.author.clone();
        match flags.sign {
            true => settings::signing_project(global, author).await,
            false => settings::project(global, author),
        }
    };
    match &arguments.verb {
        Verb::Push(verb) => push::run(&project()?, verb, printer).await,
        Verb::Addver(verb) => addver::run(&project()?, verb, printer).await,
        Verb::Addconf(verb) => addconf::run(&maker(&verb.release).await?, verb, printer).await,
        Verb::Changeconf(verb) => {
            changeconf::run(&maker(&verb.release).await?, verb, printer).await
        }
        Verb::Bumpconf(verb) => bumpconf::run(&maker(&verb.release).await?, verb, printer).await,
        Verb::Showconf(verb) => showconf::run(&project()?, verb, printer).await,
        Verb::Showcomp(verb) => showcomp::run(&project()?, verb, printer).await,
        Verb::Components => components::run(&project()?, printer).await,
        Verb::Configurations => configurations::run(&project()?, printer).await,
        Verb::Audit(verb) => audit::run(&project()?, verb, printer).await,
        Verb::Delver(verb) => delver::run(&project()?, verb).await,
        Verb::Delcomp(verb) => delcomp::run(&project()?, verb).await,
        Verb::Delconf(verb) => delconf::run(&project()?, verb).await,
        Verb::Sign(verb) => {
            let project = settings::signing_project(global, None).await?;
            sign::run(&project, verb, printer).await
        }
        Verb::Verify(verb) => verify::run(&project()?, verb, printer).await,
        Verb::Login(verb) => login::run(global, verb, printer).await,
        Verb::Logout => logout::run(global, printer),
        Verb::Token(verb) => {
            let connection = settings::connection(global)?;
            token::run(&connection.registry()?, verb, printer).await
        }
        Verb::Certificate => {
            let connection = settings::connection(global)?;
            certificate::run(&connection.registry()?, printer).await
        }
        Verb::Credential(verb) => credential::run(verb).await,
        Verb::Completions(verb) => completions::run(verb),
        Verb::Man(verb) => man::run(verb),
    }
}

/// A release that was made, or the one that was left as it is.
#[derive(Serialize)]
struct Made {
    name: String,
    release: Option<ReleaseNumber>,
    id: String,
    changed: bool,
    /// The key that signed it, where it was to be signed.
    signed: Option<String>,
}

impl Made {
    fn new(outcome: &Outcome) -> Self {
        let release = &outcome.now.release;
        Self {
            name: release.configuration.to_string(),
            release: release.number,
            id: outcome.now.id.to_string(),
            changed: outcome.changed,
            signed: outcome
                .signed
                .as_ref()
                .map(|signed| signed.fingerprint.to_string()),
        }
    }

    fn line(&self) -> String {
        let line = match self.release {
            Some(number) => format!("{} {number} {}\n", self.name, self.id),
            None => format!("{} {}\n", self.name, self.id),
        };
        match &self.signed {
            Some(key) => format!("{line}signed by {key}\n"),
            None => line,
        }
    }
}

/// A plain list of names, one a line.
fn names<T: Serialize + std::fmt::Display>(printer: &Printer, names: &[T]) -> Result<()> {
    printer.result(&names, |names| {
        names.iter().map(|name| format!("{name}\n")).collect()
    })?;
    Ok(())
}

/// Prints a component version that was added.
fn added(printer: &Printer, added: &deployctl::ops::Added) -> Result<()> {
    printer.result(added, |added| {
        format!("{} {}\n", added.reference, added.digest)
    })?;
    Ok(())
}
