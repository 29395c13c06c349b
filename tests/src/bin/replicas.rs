//! `replicas COUNT COMMAND…`: starts an S3 server and so many registries over one bucket of it, runs the
//! command with the address of a load balancer before them as its last argument, and ends as it does. Called
//! by `tests/run`; needs `minio` on PATH or in `target/peers/bin`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use deploy_tests::minio::Minio;
use deploy_tests::peers;
use deploy_tests::replicas::Replicas;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let count = arguments
        .next()
        .and_then(|count| count.to_str()?.parse().ok());
    let count: usize = count.context("say how many: replicas COUNT COMMAND…")?;
    let program = arguments.next();
    let program = program.context("say what to run: replicas COUNT COMMAND…")?;
    let Some(minio) = peers::find(Minio::PROGRAM) else {
        peers::skip("replicas", Minio::PROGRAM);
        return Ok(ExitCode::SUCCESS);
    };
    let minio = Minio::start(&minio);
    let replicas = Replicas::start(&minio, "replicas", count, &[]);
    let status = Command::new(&program)
        .args(arguments)
        .arg(format!("http://{}", replicas.address()))
        .status()
        .with_context(|| format!("run `{}`", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
