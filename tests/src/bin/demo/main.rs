//! The demo: real programs deploy real content on this machine, and every command that does it is printed as a
//! person would type it, with its answer and the time it took. Called by people, as `cargo demo`, and by a scenario.
//!
//! It exits 1 when anything is not as it should be, and leaves nothing behind but with `--keep`.

mod printer;
mod shell;
mod stage;
mod story;

use std::io::IsTerminal;
use std::process::ExitCode;

use printer::Printer;
use stage::Stage;

const USAGE: &str = "\
usage: cargo demo [--keep]

Builds the programs, starts a registry on a temporary directory, deploys a release with an agent,
changes one layer, and shows that this layer is all that moves.

  --keep   leave everything running for a look round, and say how to stop it
";

fn main() -> ExitCode {
    let mut keep = false;
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let printer = Printer::new(colour);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--keep" | "-keep" => keep = true,
            "--help" | "-help" | "-h" => {
                printer.plain(USAGE);
                return ExitCode::SUCCESS;
            }
            other => {
                printer.complaint(&format!("demo: unknown argument `{other}`\n{USAGE}"));
                return ExitCode::from(2);
            }
        }
    }
    match play(&printer, keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer.complaint(&format!("demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn play(printer: &Printer, keep: bool) -> anyhow::Result<()> {
    let stage = Stage::set()?;
    let story = story::tell(printer, &stage);
    match story {
        Ok(ending) if keep => {
            stage.keep();
            ending.leave_running_and_say_how_to_look_round(printer);
            Ok(())
        }
        // Everything is put away first, so that the last line is true when it is read.
        Ok(ending) => {
            stage.clear();
            ending.say_that_all_is_gone(printer);
            Ok(())
        }
        Err(error) => {
            stage.stop_if_interrupted();
            stage.clear();
            Err(error)
        }
    }
}
