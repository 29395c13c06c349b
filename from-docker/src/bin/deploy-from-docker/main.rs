//! `deploy-from-docker`: flags → one import, or one unit → print.
//!
//! `arguments` is what a person may type, `settings` what that means together with the
//! environment, `printer` and `progress` write to the terminal, `tree` looks for programs.

mod arguments;
mod printer;
mod progress;
mod settings;
mod tree;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use deploy_from_docker::{
    Plan, source,
    unit::{UnitOptions, unit},
};

use arguments::{Arguments, Import, Unit, Verb};
use progress::Bars;

fn main() -> ExitCode {
    let arguments = deploy_spec::arguments::normalise(std::env::args_os());
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return printer::usage(&error),
    };
    start_log();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return printer::failure(&anyhow::Error::new(error).context("start")),
    };
    let done = match &arguments.verb {
        Some(Verb::Unit(verb)) => runtime.block_on(print_unit(verb)),
        None => runtime.block_on(import(&arguments.import)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What still reads a stream that has no end is not waited for.
            runtime.shutdown_background();
            printer::failure(&error)
        }
    }
}

async fn print_unit(verb: &Unit) -> Result<()> {
    let project = settings::reading(&verb.target)?;
    let shown = project
        .show_configuration(&verb.name, &verb.channel)
        .await?;
    let root = settings::root(verb)?;
    let has_program = |program: &std::path::Path| tree::has_program(&root, program);
    let options = UnitOptions {
        has_program: Some(&has_program),
    };
    let text = unit(&verb.name, &shown.release.image, &root, &options)?;
    Ok(printer::text(&text)?)
}

async fn import(arguments: &Import) -> Result<()> {
    let image = settings::image(arguments)?;
    let target = settings::target(&arguments.target)?;
    let project = settings::project(&target, arguments).await?;
    // Before anything is read from a stream that comes once.
    project.registry.ping().await?;
    let surroundings = settings::source(&image, &target, arguments)?;
    let found = source::open(&image, &surroundings).await?;
    let plan = Plan::make(&project, found, &settings::request(arguments)).await?;
    if arguments.dry_run {
        return Ok(printer::planned(&plan, arguments.output)?);
    }
    let layers = plan.layers.iter();
    let layers = layers.map(|planned| {
        let name = planned.reference().component.to_string();
        (name, planned.bytes_to_send())
    });
    let bars = Bars::new(layers.collect());
    let imported = plan
        .carry_out(&project, |index| bars.progress(index))
        .await?;
    drop(bars);
    Ok(printer::imported(&imported, arguments.output)?)
}

/// Logs go to stderr, and only when `RUST_LOG` asks for them.
fn start_log() {
    let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() else {
        return;
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
