//! What a person may type. Parsed once, by clap, into the types of the libraries.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::FalseyValueParser};
use deploy_from_docker::{Platform, SourceReference};
use deploy_spec::{
    Channel, ConfigurationName, Fingerprint, LayerReference, Prefix, arguments::Given,
    media_type::Compression,
};
use deployctl::client::Address;

/// Turns a container image into a configuration that agents deploy on hosts without Docker.
///
/// Each layer becomes a version of a component, byte for byte, and the image's configuration stays
/// with the release. What the registry has already is neither read nor sent.
///
/// Every flag may be written with one dash or two: -name x, --name x, -name=x. Exit status: 0 done,
/// 1 failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(
    name = "deploy-from-docker",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    pub(crate) import: Import,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print a systemd unit that starts an image's program from the tree that a host has deployed
    Unit(Unit),
}

/// The registry, and who one is there.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Registry to import into: host:port, http://host[:port] or https://host[:port]
    #[arg(long, env = "DEPLOYCTL_ADDR", hide_env_values = true)]
    pub(crate) addr: Option<Given<Address>>,
    /// Fingerprint of the registry's key, SHA256:…, as the registry logs it
    #[arg(long, env = "DEPLOYCTL_FINGERPRINT", hide_env_values = true)]
    pub(crate) fp: Option<Given<Fingerprint>>,
    /// SSH key to prove who you are where the registry asks for it
    #[arg(
        long,
        value_name = "FILE",
        env = "DEPLOYCTL_KEY",
        hide_env_values = true
    )]
    pub(crate) key: Option<PathBuf>,
    /// What stands before components/ and configs/ in the names of repositories
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) prefix: Prefix,
}

/// What `unit` takes.
#[derive(Debug, Args)]
pub(crate) struct Unit {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Name of the configuration
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: ConfigurationName,
    /// Channel of the configuration
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    pub(crate) channel: Channel,
    /// The tree on the host: a link that its script renews. /srv/NAME unless given
    ///
    /// A program that the image names without a directory is looked for there.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) root: Option<PathBuf>,
}

/// What an import takes.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The image; without one, an archive is read from standard input.
    ///
    /// docker://[HOST[:PORT]/]PATH[:TAG|@DIGEST] in a registry;
    /// docker-archive:FILE[:NAME] written by `docker save` or `podman save`;
    /// oci:DIRECTORY[:TAG] or oci-archive:FILE[:TAG], an OCI image layout;
    /// docker-daemon:NAME in the container engine of this machine;
    /// - on standard input, as in `docker save IMAGE | deploy-from-docker`.
    #[arg(value_name = "IMAGE", verbatim_doc_comment)]
    pub(crate) image: Option<SourceReference>,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Name of the configuration to make; the image's, with . for : and /, unless given
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: Option<ConfigurationName>,
    /// What the components of the layers are called, each .l<i> behind it; as the configuration
    /// unless given
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub(crate) component_prefix: Option<String>,
    /// Component version to add on top of the image's layers; may be repeated
    #[arg(
        long = "layer",
        value_name = "COMPONENT:VERSION",
        allow_hyphen_values = true
    )]
    pub(crate) layers: Vec<LayerReference>,
    /// Channel of the configuration
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    pub(crate) channel: Channel,
    /// Platform to take of an image for several: os/architecture[/variant]; this machine's
    /// architecture on Linux unless given
    #[arg(long)]
    pub(crate) platform: Option<Platform>,
    /// Compress layers anew, which gives them other digests; they stay as they are otherwise
    #[arg(long, value_enum)]
    pub(crate) recompress: Option<Recompress>,
    /// Make one layer of the image's, as hosts would put them together: without what later layers
    /// remove or replace, and without devices. Compressed with gzip unless --recompress says
    /// otherwise
    #[arg(long)]
    pub(crate) flatten: bool,
    /// Decompress large layers too before their last bytes are sent, to be sure that they are what
    /// the image says. Otherwise that is done with layers of up to 16 MiB, and hosts do it with all
    #[arg(long)]
    pub(crate) verify_layers: bool,
    /// Say what would be made and how many bytes would move, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Why the release is made, kept with it
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Who makes the release, kept with it
    #[arg(long, env = "DEPLOYCTL_AUTHOR", hide_env_values = true)]
    pub(crate) author: Option<String>,
    /// Sign the release, before any host can see it; with DEPLOYCTL_SIGN=1 always
    #[arg(
        long,
        env = "DEPLOYCTL_SIGN",
        hide_env_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub(crate) sign: bool,
    /// Fingerprint of the key of the registry that the image is in
    #[arg(long, value_name = "FP")]
    pub(crate) src_fp: Option<Fingerprint>,
    /// Speak HTTPS to the registry that the image is in, or with =false plain HTTP; unless given,
    /// HTTP to this machine and HTTPS to any other
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) src_tls_verify: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Lines for people.
    Text,
    /// One JSON document for programs.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Recompress {
    /// Read by every client
    Gzip,
    /// Smaller, and faster to unpack
    Zstd,
}

impl From<Recompress> for Compression {
    fn from(recompress: Recompress) -> Self {
        match recompress {
            Recompress::Gzip => Self::Gzip,
            Recompress::Zstd => Self::Zstd,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_are_those_of_the_original_and_of_skopeo() {
        let line = [
            "deploy-from-docker",
            "-addr",
            "localhost:1",
            "-name=app",
            "-layer",
            "a:1",
            "--layer=b:2",
            "--src-tls-verify=false",
            "-",
        ];
        let line = deploy_spec::arguments::normalise(line.map(Into::into));
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert_eq!(arguments.import.image, Some(SourceReference::Stdin));
        assert_eq!(arguments.import.name.unwrap().as_str(), "app");
        assert_eq!(arguments.import.layers.len(), 2);
        assert_eq!(arguments.import.src_tls_verify, Some(false));
        let bare = ["deploy-from-docker", "--src-tls-verify", "docker://a"];
        let arguments = Arguments::try_parse_from(bare).unwrap();
        assert_eq!(arguments.import.src_tls_verify, Some(true));
        assert!(Arguments::try_parse_from(["deploy-from-docker", "debian:12"]).is_err());
    }

    #[test]
    fn unit_stands_beside_an_image() {
        let unit = ["deploy-from-docker", "unit", "--name", "app"];
        let verb = Arguments::try_parse_from(unit).unwrap().verb;
        assert!(matches!(verb, Some(Verb::Unit(unit)) if unit.name.as_str() == "app"));
        let both = ["deploy-from-docker", "-", "unit", "--name", "app"];
        assert!(Arguments::try_parse_from(both).is_err());
    }
}
