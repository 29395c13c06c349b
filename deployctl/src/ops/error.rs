//! Why a verb failed. Returned by everything in `ops`.

use std::{io, path::PathBuf};

use deploy_spec::{
    Channel, ComponentName, ConfigurationName, Digest, LayerReference, Tag, Version,
    component::ComponentError, release::ReleaseError,
};

use crate::{archive::ArchiveError, client::ClientError, ssh::SshError};

/// Why a verb failed; nothing that was visible before has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// The registry, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The key that is to sign.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The configuration has no such release.
    #[error("configuration `{configuration}` has no release `{release}`")]
    UnknownRelease {
        /// The configuration.
        configuration: ConfigurationName,
        /// What was asked for.
        release: String,
    },
    /// A signature of this release would not say what is meant.
    #[error("release `{release}` of configuration `{configuration}` is not to be signed: {reason}")]
    NotToBeSigned {
        /// The configuration.
        configuration: ConfigurationName,
        /// What was asked for.
        release: String,
        /// Why not.
        reason: String,
    },
    /// No version of such a component.
    #[error("unknown component `{0}`")]
    UnknownComponent(ComponentName),
    /// The component has other versions only.
    #[error("component `{component}` has no version `{version}`")]
    UnknownVersion {
        /// The component.
        component: ComponentName,
        /// What was asked for.
        version: Version,
    },
    /// No such configuration.
    #[error("unknown configuration `{0}`")]
    UnknownConfiguration(ConfigurationName),
    /// The configuration has no such channel.
    #[error("configuration `{configuration}` has no channel `{channel}`")]
    UnknownChannel {
        /// The configuration.
        configuration: ConfigurationName,
        /// What was asked for.
        channel: Channel,
    },
    /// The version exists with other content.
    #[error(
        "version `{version}` of component `{component}` already exists with other content (`{existing}`)\nhint: versions never change; choose another one"
    )]
    VersionExists {
        /// The component.
        component: ComponentName,
        /// The version.
        version: Version,
        /// The digest of its archive.
        existing: Digest,
    },
    /// What is stored under this name is not a single archive.
    #[error("`{reference}` is no component version: {source}")]
    NotAComponentVersion {
        /// The component version.
        reference: LayerReference,
        /// Why not.
        source: ComponentError,
    },
    /// What is stored under this tag is no release.
    #[error("`{tag}` of configuration `{configuration}` is no release: {source}")]
    NotARelease {
        /// The configuration.
        configuration: ConfigurationName,
        /// Channel or number.
        tag: Tag,
        /// Why not.
        source: ReleaseError,
    },
    /// A release cannot be written.
    #[error("cannot make a release of configuration `{configuration}`: {source}")]
    Release {
        /// The configuration.
        configuration: ConfigurationName,
        /// Why not.
        source: ReleaseError,
    },
    /// The content of a component version is not what it should be.
    #[error("`{what}` cannot be a layer")]
    Archive {
        /// A file, or a component version.
        what: String,
        /// Why not.
        #[source]
        source: ArchiveError,
    },
    /// Files cannot be packed.
    #[error("cannot pack `{reference}`")]
    Pack {
        /// What they were to become.
        reference: LayerReference,
        /// Why not.
        #[source]
        source: ArchiveError,
    },
    /// No blob of this digest where one was looked for.
    #[error(
        "no content with hash `{digest}` found for component `{component}`\nhint: upload it to repository `{repository}` first, or use -file"
    )]
    UnknownContent {
        /// The hash.
        digest: Digest,
        /// The component.
        component: ComponentName,
        /// Where it was looked for.
        repository: String,
    },
    /// A configuration without layers.
    #[error("a configuration has at least one layer")]
    NoLayers,
    /// One component twice in a configuration.
    #[error("component `{0}` is given twice")]
    DuplicateComponent(ComponentName),
    /// The component to change is no layer.
    #[error("configuration `{configuration}` has no layer of component `{component}`")]
    NoSuchLayer {
        /// The configuration.
        configuration: ConfigurationName,
        /// The component.
        component: ComponentName,
    },
    /// The version to delete is part of a configuration.
    #[error(
        "version is used by configuration \"{configuration}\" (`{reference}`, channel `{channel}`)"
    )]
    VersionInUse {
        /// The version.
        reference: LayerReference,
        /// The configuration.
        configuration: ConfigurationName,
        /// The channel that uses it.
        channel: Tag,
    },
    /// The registry deletes no tags, and the manifest has another one that shall stay.
    #[error(
        "cannot delete tag `{tag}` of `{repository}` alone: the registry deletes manifests only by digest, and tag `{other}` is the same manifest"
    )]
    SharedManifest {
        /// The repository.
        repository: String,
        /// The tag to delete.
        tag: Tag,
        /// The tag that would go with it.
        other: Tag,
    },
    /// Deleting a configuration has to be meant.
    #[error("configuration `{0}` would be deleted with all its releases\nhint: add -force")]
    ForceNeeded(ConfigurationName),
    /// Too many others changed the configuration meanwhile.
    #[error(
        "gave up on configuration `{configuration}` after {rounds} rounds: others kept changing it"
    )]
    Contended {
        /// The configuration.
        configuration: ConfigurationName,
        /// How often it was tried.
        rounds: u32,
    },
    /// A local file.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A blocking task was lost, which happens while the program ends.
    #[error("the work was cut short: {0}")]
    Cancelled(String),
}

impl From<tokio::task::JoinError> for OpsError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Cancelled(error.to_string())
    }
}
