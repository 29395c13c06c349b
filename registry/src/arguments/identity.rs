//! The flags that say who the registry is. Part of `serve`.

use std::path::PathBuf;

use clap::Args;

/// The registry's key and certificate.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Identity")]
pub(crate) struct IdentityFlags {
    /// The registry's key: ECDSA on P-256, in PEM, for its owner alone. Made where it is missing.
    /// DEPLOY_REGISTRY_HOST_KEY may hold the key itself instead; replicas of one bucket share one
    /// [default: `host_key` within -dir]
    #[arg(long, value_name = "FILE")]
    pub(crate) host_key: Option<PathBuf>,

    /// Name or address under which clients reach the registry, beside `localhost`, the addresses
    /// of loopback and what -tls-cert is for; may be repeated. The registry's own certificate is
    /// for all of them, and signatures for tokens have to be
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,

    /// Certificate of a real authority instead, in PEM, its issuers behind it. Read again when it
    /// changes, and at each SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of -tls-cert, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Takes plain HTTP from everywhere, not from this machine alone: for a proxy in front that
    /// speaks TLS
    #[arg(long)]
    pub(crate) plain_http: bool,
}
