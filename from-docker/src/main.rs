//! `deploy-from-docker`: the command line of the importer of container images.
//! The import itself comes with a later release; until then every call says so and fails.

use std::io::Write as _;

use clap::Parser;

/// Turns a container image into a configuration that agents deploy on hosts without Docker.
#[derive(Parser)]
#[command(name = "deploy-from-docker", version)]
struct Arguments {
    /// Registry to import into, as `host:port` or a URL
    #[arg(long, env = "DEPLOYCTL_ADDR", value_name = "ADDRESS")]
    addr: Option<String>,
    /// Fingerprint of the registry's key, `SHA256:…`
    #[arg(long, env = "DEPLOYCTL_FINGERPRINT", value_name = "FINGERPRINT")]
    fp: Option<String>,
    /// SSH private key to sign in with
    #[arg(long, value_name = "FILE")]
    key: Option<std::path::PathBuf>,
    /// Name of the configuration to make
    #[arg(long, value_name = "NAME")]
    name: Option<deploy_spec::ConfigurationName>,
    /// Layer to add on top of the image's, `component:version`; may be repeated
    #[arg(long, value_name = "COMPONENT:VERSION")]
    layer: Vec<deploy_spec::LayerReference>,
}

fn main() -> std::process::ExitCode {
    let _arguments = Arguments::parse_from(deploy_spec::arguments::normalise(std::env::args_os()));
    let answer = "importing images comes with a later release: nothing was read, nothing changed";
    // Where standard error is closed, the exit status still tells.
    let _ = writeln!(std::io::stderr(), "deploy-from-docker: {answer}");
    std::process::ExitCode::FAILURE
}
