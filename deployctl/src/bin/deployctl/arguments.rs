//! What a person may type. Parsed once, by clap, into the types of the library.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::FalseyValueParser};
use deploy_spec::{
    Channel, ComponentName, ConfigurationName, Digest, Fingerprint, LayerReference, Prefix, Scope,
    Version, arguments::Given, media_type::Compression,
};
use deployctl::{client::Address, ops::ReleaseName};

use crate::moment::Moment;

/// Pushes, composes and inspects components and configurations in an OCI registry.
///
/// Every flag may be written with one dash or two: -name x, --name x, -name=x. Global flags may
/// stand before or behind the verb. Exit status: 0 done, 1 failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(
    name = "deployctl",
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Registry address: host:port, http://host[:port] or https://host[:port].
    ///
    /// Without a scheme, a loopback address is spoken to in plain HTTP unless -fp is given, and
    /// every other one in HTTPS.
    #[arg(long, global = true, env = "DEPLOYCTL_ADDR", hide_env_values = true)]
    pub(crate) addr: Option<Given<Address>>,
    /// Fingerprint of the registry's key, SHA256:…, as the registry logs it.
    #[arg(
        long,
        global = true,
        env = "DEPLOYCTL_FINGERPRINT",
        hide_env_values = true
    )]
    pub(crate) fp: Option<Given<Fingerprint>>,
    /// SSH key to prove who you are where the registry asks for it.
    ///
    /// A private key, or a public one whose other half is in the ssh-agent. Without it, what
    /// `login` stored for the registry is used, or else the keys that the ssh-agent keeps.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DEPLOYCTL_KEY",
        hide_env_values = true
    )]
    pub(crate) key: Option<PathBuf>,
    /// What stands before components/ and configs/ in the names of repositories.
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    pub(crate) prefix: Prefix,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people.
    Text,
    /// One JSON document for programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Pack files and directories as a new component version
    Push(Push),
    /// Add a new component version from a finished archive
    Addver(Addver),
    /// Add a new configuration from existing component versions, or replace it
    Addconf(Addconf),
    /// Update a single layer of a configuration to the most recent version
    Bumpconf(Bumpconf),
    /// Update a single layer of a configuration to a specific version
    Changeconf(Changeconf),
    /// Show a configuration
    Showconf(Showconf),
    /// Show the versions of a component
    Showcomp(Showcomp),
    /// List all known components
    Components,
    /// List all known configurations
    Configurations,
    /// Show who changed what in the registry, and who was refused
    Audit(Audit),
    /// Delete a component version
    Delver(Delver),
    /// Delete all versions of a component
    Delcomp(Delcomp),
    /// Delete a configuration with all its releases
    Delconf(Delconf),
    /// Sign a release, for hosts that deploy nothing unsigned
    Sign(Sign),
    /// Show who signed a release, and whose signatures count
    Verify(Verify),
    /// Remember a registry, and let container clients in with the same key or password
    Login(Login),
    /// Forget what `login` remembered
    Logout,
    /// Print a token for requests of other programs
    Token(Token),
    /// Print the registry's certificate, for programs that pin one
    Certificate,
    /// Answer container clients that ask for credentials
    #[command(hide = true)]
    Credential(Credential),
    /// Print the completions of a shell
    Completions(Completions),
    /// Write the manual pages to a directory, or print the main one
    Man(Man),
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// What it becomes
    #[arg(value_name = "COMPONENT:VERSION")]
    pub(crate) reference: LayerReference,
    /// Files and directories to pack.
    ///
    /// The contents of a directory are packed at the root of the archive, a file under its own
    /// name. The same tree gives the same digest on any machine. One single file that is a tar
    /// archive (plain, gzip or zstd) is taken as it is.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// How the archive is compressed
    #[arg(long, value_enum, default_value_t = Packing::Gzip)]
    pub(crate) compression: Packing,
    /// Revision of the source that the files were built from
    #[arg(long)]
    pub(crate) revision: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Packing {
    /// A plain tar archive
    None,
    /// Read by every client
    Gzip,
    /// Smaller, and faster to unpack
    Zstd,
}

impl From<Packing> for Compression {
    fn from(packing: Packing) -> Self {
        match packing {
            Packing::None => Self::None,
            Packing::Gzip => Self::Gzip,
            Packing::Zstd => Self::Zstd,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Addver {
    /// Component name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ComponentName,
    /// Component version
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) version: Version,
    #[command(flatten)]
    pub(crate) source: AddverSource,
    /// Revision of the source that the archive was built from
    #[arg(long)]
    pub(crate) revision: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct AddverSource {
    /// Archive to upload: tar, tar+gzip or tar+zstd
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// SHA-256 of an archive that the registry has already
    #[arg(long, value_parser = parse_hash)]
    pub(crate) hash: Option<Digest>,
}

#[derive(Debug, Args)]
pub(crate) struct Addconf {
    /// Configuration name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ConfigurationName,
    /// A layer; given once for each, in the order in which they unpack
    #[arg(
        long = "layer",
        required = true,
        value_name = "COMPONENT:VERSION",
        allow_hyphen_values = true
    )]
    pub(crate) layers: Vec<LayerReference>,
    #[command(flatten)]
    pub(crate) release: ReleaseFlags,
}

#[derive(Debug, Args)]
pub(crate) struct Changeconf {
    /// Configuration name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ConfigurationName,
    /// Component whose layer is changed
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) component: ComponentName,
    /// Version that the layer becomes
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) version: Version,
    #[command(flatten)]
    pub(crate) release: ReleaseFlags,
}

#[derive(Debug, Args)]
pub(crate) struct Bumpconf {
    /// Configuration name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ConfigurationName,
    /// Component whose layer is brought up to date
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) component: ComponentName,
    #[command(flatten)]
    pub(crate) release: ReleaseFlags,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseFlags {
    /// Why the release is made, kept with it
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Sign the release, before any host can see it; with DEPLOYCTL_SIGN=1 always
    ///
    /// By the key of -key, or the one that `login` remembers, or the only one in the ssh-agent.
    #[arg(
        long,
        env = "DEPLOYCTL_SIGN",
        hide_env_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub(crate) sign: bool,
    /// Who makes the release, kept with it
    #[arg(long, env = "DEPLOYCTL_AUTHOR", hide_env_values = true)]
    pub(crate) author: Option<String>,
    #[command(flatten)]
    pub(crate) channel: ChannelFlag,
}

#[derive(Debug, Args)]
pub(crate) struct ChannelFlag {
    /// Channel of the configuration
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    pub(crate) channel: Channel,
}

#[derive(Debug, Args)]
pub(crate) struct Showconf {
    /// Configuration name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ConfigurationName,
    /// Show name, time, hash and release too
    #[arg(short)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) channel: ChannelFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Showcomp {
    /// Component name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ComponentName,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Not before this time: as 2026-01-02T03:04:05Z, or so long ago, as 90m or 7d
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) since: Moment,
    /// Not after this time, in the same form
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// Only of this configuration
    #[arg(long, allow_hyphen_values = true, conflicts_with = "component")]
    pub(crate) name: Option<ConfigurationName>,
    /// Only of this component
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) component: Option<ComponentName>,
    /// How many of the last lines to show; 0 shows all
    #[arg(short, value_name = "NUMBER", default_value_t = 100)]
    pub(crate) n: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Delver {
    /// Component name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ComponentName,
    /// Component version
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) version: Version,
}

#[derive(Debug, Args)]
pub(crate) struct Delcomp {
    /// Component name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ComponentName,
}

#[derive(Debug, Args)]
pub(crate) struct Delconf {
    /// Configuration name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ConfigurationName,
    /// Really delete it
    #[arg(long)]
    pub(crate) force: bool,
}

/// With an SSH key (-key, or any of the ssh-agent) nothing secret is stored: container clients are
/// told to ask `docker-credential-deployctl`, which signs anew each time. With -user, name and
/// password are stored as `docker login` does it.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Name of a user with a password, instead of an SSH key
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "user")]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// What the token is to be good for, as `repository:configs/project1:pull,push`; may be
    /// repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<Scope>,
}

#[derive(Debug, Args)]
pub(crate) struct Credential {
    pub(crate) action: CredentialAction,
}

/// The words of Docker's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CredentialAction {
    Get,
    List,
    Store,
    Erase,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// Configuration name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ConfigurationName,
    /// The release, by its number, v3, or by its id, sha256:… [default: what the channel is]
    ///
    /// A signature vouches for what the registry has under this name. Whoever does not trust it
    /// gives the id.
    #[arg(long, value_name = "RELEASE")]
    pub(crate) release: Option<ReleaseName>,
    /// Sign it as a way back: hosts that had a newer one deploy it all the same
    ///
    /// It counts until they have deployed what was signed after it.
    #[arg(long)]
    pub(crate) rollback: bool,
    #[command(flatten)]
    pub(crate) channel: ChannelFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Configuration name
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ConfigurationName,
    /// The release, by its number, v3, or by its id, sha256:… [default: what the channel is]
    #[arg(long, value_name = "RELEASE")]
    pub(crate) release: Option<ReleaseName>,
    /// File of allowed signers, as ssh-keygen has it: lines of somebody and a public key
    #[arg(
        long,
        value_name = "FILE",
        env = "DEPLOYCTL_ALLOWED_SIGNERS",
        hide_env_values = true
    )]
    pub(crate) allowed_signers: PathBuf,
    #[command(flatten)]
    pub(crate) channel: ChannelFlag,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory for one page per verb
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// The original takes 64 hexadecimal digits; the label is understood too.
fn parse_hash(text: &str) -> Result<Digest, deploy_spec::digest::DigestError> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    Digest::from_hex(deploy_spec::Algorithm::Sha256, hex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_behind_the_verb() {
        for line in [
            "deployctl -addr a:1 --output json showcomp -name x",
            "deployctl showcomp -name=x --addr=a:1 -output json",
        ] {
            let line = line.split(' ').map(Into::into);
            let arguments = deploy_spec::arguments::normalise(line);
            let arguments = Arguments::try_parse_from(arguments).unwrap();
            assert_eq!(arguments.global.addr.unwrap().0.unwrap().to_string(), "a:1");
            assert_eq!(arguments.global.output, Output::Json);
        }
    }

    #[test]
    fn hashes_are_taken_with_and_without_label() {
        let digest = Digest::sha256(b"");
        assert_eq!(parse_hash(digest.hex()), Ok(digest.clone()));
        assert_eq!(parse_hash(&digest.to_string()), Ok(digest));
        assert!(parse_hash("abc").is_err());
    }
}
