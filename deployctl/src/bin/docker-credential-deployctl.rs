//! `docker-credential-deployctl`: the helper that container clients ask for credentials, found by
//! them by its name. Hands everything to `deployctl`, which stands beside it.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let own = env::current_exe().ok();
    let beside = own.map(|path| path.with_file_name("deployctl"));
    let program = beside.filter(|path| path.exists());
    let program = program.unwrap_or_else(|| PathBuf::from("deployctl"));
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let error = Command::new(&program)
        .arg("credential")
        .args(arguments)
        .exec();
    // Where helpers say what is wrong.
    #[expect(clippy::print_stdout, reason = "a program of a few lines")]
    {
        println!("cannot run `{}`: {error}", program.display());
    }
    ExitCode::FAILURE
}
