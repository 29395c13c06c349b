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

/// Returns a number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut shown = (bytes as f64, "B");
    for unit in UNITS {
        if shown.0 < 1024.0 {
            break;
        }
        shown = (shown.0 / 1024.0, unit);
    }
    match shown {
        (_, "B") => format!("{bytes} B"),
        (number, unit) => format!("{number:.1} {unit}"),
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
