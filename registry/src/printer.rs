//! Results to standard output, and why the program ends to standard error. The only place
//! beside `log` that writes there.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use deploy_registry::store::LocationError;

use crate::arguments::UsageError;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Writes a result. That nobody reads it to its end (`| head`) is no failure.
pub(crate) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Says why the program ends, and returns the code that it ends with.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    let typed_wrong = error.is::<UsageError>() || error.is::<LocationError>();
    let code = if typed_wrong { USAGE } else { FAILED };
    let text = format!("{error:#}");
    // Where nobody reads it, the exit code must do.
    let _ = writeln!(io::stderr(), "deploy-registry: {text}");
    ExitCode::from(code)
}

/// Ends the process at once, for somebody who has asked twice.
pub(crate) fn abandon() -> ! {
    std::process::exit(i32::from(FAILED))
}
