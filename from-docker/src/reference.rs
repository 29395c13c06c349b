//! What people call an image and where it is, as skopeo's users write it. Parsed by whoever takes
//! such a name from a user, and nowhere else.

use std::{fmt, path::PathBuf, str::FromStr};

use deploy_spec::{NameError, Reference, RepositoryName, Tag};
use deployctl::client::{Address, AddressError};

/// The registry that is meant where none is named.
const DOCKER_HUB: &str = "docker.io";

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceReference {
    /// `docker://[HOST[:PORT]/]PATH[:TAG|@DIGEST]`: in a registry.
    Registry(ImageName),
    /// `docker-archive:FILE[:NAME]`: in a file that `docker save` or `podman save` wrote.
    DockerArchive(PathBuf, Choice),
    /// `oci:DIRECTORY[:TAG]`: in an OCI image layout.
    Layout(PathBuf, Choice),
    /// `oci-archive:FILE[:TAG]`: in a tar archive of an OCI image layout.
    LayoutArchive(PathBuf, Choice),
    /// `docker-daemon:NAME`: in the store of a container engine on this machine.
    Daemon(String),
    /// `-`: an archive of either kind, on standard input.
    Stdin,
}

/// Which image of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The only one.
    Only,
    /// The one of this name.
    Name(String),
}

/// The name of an image in a registry; Docker's short forms mean its own one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// `host` or `host:port`.
    pub host: String,
    /// The repository.
    pub path: RepositoryName,
    /// Tag or digest; `latest` where neither was given.
    pub reference: Reference,
}

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No way to get there.
    #[error(
        "`{}` does not say where the image is\nhint: write docker://{}, docker-archive:FILE[:NAME], oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG], docker-daemon:NAME, or - for standard input",
        .0.escape_debug(), .0.escape_debug()
    )]
    NoTransport(String),
    /// A way that is not known.
    #[error(
        "`{}:` is no way to an image that is known here\nhint: those are docker://, docker-archive:, oci:, oci-archive:, docker-daemon: and - for standard input",
        .0.escape_debug()
    )]
    UnknownTransport(String),
    /// Nothing behind the transport.
    #[error("`{}` names no image", .0.escape_debug())]
    Empty(String),
    /// The name breaks the grammar.
    #[error("`{}` is no name of an image: {source}", text.escape_debug())]
    Name {
        /// What was given.
        text: String,
        /// The rule.
        source: NameError,
    },
    /// The host is none.
    #[error("`{}` is no name of an image: {source}", text.escape_debug())]
    Host {
        /// What was given.
        text: String,
        /// Why not.
        source: AddressError,
    },
}

impl FromStr for SourceReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let (transport, rest) = match text.split_once(':') {
            Some((transport, rest)) if !transport.contains(['/', '.']) => (transport, rest),
            _ => return Err(ReferenceError::NoTransport(text.to_owned())),
        };
        let file = || match rest.split_once(':') {
            _ if rest.is_empty() || rest.starts_with(':') => {
                Err(ReferenceError::Empty(text.to_owned()))
            }
            Some((path, name)) if !name.is_empty() => {
                Ok((PathBuf::from(path), Choice::Name(name.to_owned())))
            }
            Some(_) => Err(ReferenceError::Empty(text.to_owned())),
            None => Ok((PathBuf::from(rest), Choice::Only)),
        };
        match transport {
            "docker" => match rest.strip_prefix("//") {
                Some("") | None => Err(ReferenceError::Empty(text.to_owned())),
                Some(name) => Ok(Self::Registry(name.parse()?)),
            },
            "docker-archive" => file().map(|(path, choice)| Self::DockerArchive(path, choice)),
            "oci" => file().map(|(path, choice)| Self::Layout(path, choice)),
            "oci-archive" => file().map(|(path, choice)| Self::LayoutArchive(path, choice)),
            "docker-daemon" if rest.is_empty() => Err(ReferenceError::Empty(text.to_owned())),
            "docker-daemon" => Ok(Self::Daemon(rest.to_owned())),
            "dir" | "containers-storage" | "ostree" | "sif" | "tarball" | "http" | "https"
            | "docker-image" => Err(ReferenceError::UnknownTransport(transport.to_owned())),
            _ => Err(ReferenceError::NoTransport(text.to_owned())),
        }
    }
}

impl fmt::Display for SourceReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, choice) = match self {
            Self::Registry(name) => return write!(formatter, "docker://{name}"),
            Self::Daemon(name) => return write!(formatter, "docker-daemon:{name}"),
            Self::Stdin => return formatter.write_str("-"),
            Self::DockerArchive(path, choice) => ("docker-archive", path, choice),
            Self::Layout(path, choice) => ("oci", path, choice),
            Self::LayoutArchive(path, choice) => ("oci-archive", path, choice),
        };
        write!(formatter, "{transport}:{}", path.display())?;
        match choice {
            Choice::Only => Ok(()),
            Choice::Name(name) => write!(formatter, ":{name}"),
        }
    }
}

impl ImageName {
    /// Returns where the registry answers, which for Docker's own is not where its images are
    /// named after.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn address(&self) -> Result<Address, AddressError> {
        match self.host.as_str() {
            DOCKER_HUB => "registry-1.docker.io".parse(),
            host => host.parse(),
        }
    }

    /// Returns what auth files know the registry by.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn account(&self) -> Result<Address, AddressError> {
        match self.host.as_str() {
            DOCKER_HUB => "index.docker.io".parse(),
            host => host.parse(),
        }
    }

    /// Returns path and tag without the host, or with the beginning of the digest: what the image
    /// is called among those of its registry.
    pub fn familiar(&self) -> String {
        let path = self.path.as_str();
        let path = match self.host.as_str() {
            DOCKER_HUB => path.strip_prefix("library/").unwrap_or(path),
            _ => path,
        };
        match &self.reference {
            Reference::Tag(tag) => format!("{path}:{tag}"),
            Reference::Digest(digest) => format!("{path}:{}", digest.short()),
        }
    }
}

impl FromStr for ImageName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let name = |source: NameError| ReferenceError::Name {
            text: text.to_owned(),
            source,
        };
        // As Docker tells them apart.
        let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
        let (host, rest) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (DOCKER_HUB, text),
        };
        let host = match host {
            "index.docker.io" => DOCKER_HUB,
            host => host,
        };
        (host.parse::<Address>()).map_err(|source| ReferenceError::Host {
            text: text.to_owned(),
            source,
        })?;
        let (path, reference) = match rest.split_once('@') {
            Some((path, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|error| name(NameError::Digest(error)))?;
                // A tag beside a digest says nothing more.
                let path = path.split_once(':').map_or(path, |(path, _)| path);
                (path, Reference::Digest(digest))
            }
            None => match rest.split_once(':') {
                Some((path, tag)) => (path, Reference::Tag(tag.parse().map_err(name)?)),
                None => {
                    let latest: Tag = "latest".parse().expect("it fits the grammar");
                    (rest, Reference::Tag(latest))
                }
            },
        };
        let path = match host {
            DOCKER_HUB if !path.contains('/') => format!("library/{path}"),
            _ => path.to_owned(),
        };
        Ok(Self {
            host: host.to_owned(),
            path: path.parse().map_err(name)?,
            reference,
        })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.reference {
            Reference::Tag(_) => ':',
            Reference::Digest(_) => '@',
        };
        write!(
            formatter,
            "{}/{}{separator}{}",
            self.host, self.path, self.reference
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_of_images_are_completed_as_docker_does() {
        let by_digest = format!("a.example/b@{DIGEST}");
        let table = [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("org/app:1", "docker.io/org/app:1", "org/app:1"),
            (
                "index.docker.io/org/app",
                "docker.io/org/app:latest",
                "org/app:latest",
            ),
            ("localhost/a:1", "localhost/a:1", "a:1"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1", "a/b:1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "a:latest"),
            (&by_digest, &by_digest, "b:e3b0c44298fc"),
        ];
        for (text, full, familiar) in table {
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.to_string(), full, "{text}");
            assert_eq!(name.familiar(), familiar, "{text}");
            assert_eq!(name.to_string().parse::<ImageName>().unwrap(), name);
        }
        let tagged: ImageName = format!("a.example/b:1@{DIGEST}").parse().unwrap();
        assert_eq!(tagged.to_string(), by_digest);
        let hub: ImageName = "debian".parse().unwrap();
        assert_eq!(hub.address().unwrap().to_string(), "registry-1.docker.io");
        assert_eq!(hub.account().unwrap().to_string(), "index.docker.io");
    }

    #[test]
    fn sources_are_what_they_say() {
        let name = |text: &str| Choice::Name(text.to_owned());
        let table = [
            ("-", SourceReference::Stdin),
            (
                "docker-archive:a/b.tar",
                SourceReference::DockerArchive("a/b.tar".into(), Choice::Only),
            ),
            (
                "docker-archive:b.tar:app:1",
                SourceReference::DockerArchive("b.tar".into(), name("app:1")),
            ),
            ("oci:/a", SourceReference::Layout("/a".into(), Choice::Only)),
            (
                "oci:/a:v1",
                SourceReference::Layout("/a".into(), name("v1")),
            ),
            (
                "oci-archive:a:v1",
                SourceReference::LayoutArchive("a".into(), name("v1")),
            ),
            (
                "docker-daemon:app:1",
                SourceReference::Daemon("app:1".into()),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse(), Ok(expected.clone()), "{text}");
            assert_eq!(expected.to_string(), text);
        }
    }

    #[test]
    fn what_says_no_source_is_refused_with_the_ways_there_are() {
        for text in [
            "debian",
            "debian:12",
            "image.tar",
            "a.example/b:1",
            "./docker:x",
            "",
        ] {
            let error = text.parse::<SourceReference>().unwrap_err();
            assert_eq!(error, ReferenceError::NoTransport(text.to_owned()));
            assert!(error.to_string().contains("docker-archive:FILE"), "{error}");
        }
        for text in [
            "docker://",
            "docker:debian",
            "oci:",
            "oci::v1",
            "oci:a:",
            "docker-daemon:",
        ] {
            let error = text.parse::<SourceReference>().unwrap_err();
            assert_eq!(error, ReferenceError::Empty(text.to_owned()));
        }
        assert_eq!(
            "dir:/a".parse::<SourceReference>(),
            Err(ReferenceError::UnknownTransport("dir".into()))
        );
        for text in [
            "docker://A",
            "docker://a:b:c",
            "docker://a@sha256:12",
            "docker://a/../b",
        ] {
            let error = text.parse::<SourceReference>().unwrap_err();
            assert!(
                matches!(error, ReferenceError::Name { .. }),
                "{text}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_display(text in "(docker://|oci:|docker-archive:|oci-archive:|docker-daemon:)[a-z./:@-]{1,24}") {
            if let Ok(reference) = text.parse::<SourceReference>() {
                prop_assert_eq!(reference.to_string().parse::<SourceReference>(), Ok(reference));
            }
        }
    }
}
