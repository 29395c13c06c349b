//! Where a registry keeps everything, as operators write it: the URL of `--store`. Pure.

use std::{fmt, path::PathBuf, str::FromStr};

use object_store::path::Path;
use url::Url;

/// Where a registry keeps everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `file:///srv/registry`: a directory of this machine.
    Directory(PathBuf),
    /// `memory:///`: nowhere; gone with the process.
    Memory,
    /// `s3://bucket/prefix` and its like.
    Bucket(Bucket),
}

/// A bucket, and where in it the registry begins. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    provider: Provider,
    name: String,
    prefix: Path,
}

/// Whose API a bucket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// S3, Amazon's or anybody's.
    Amazon,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Google,
}

/// A URL that names no place. No message repeats the URL's user, password or query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It does not begin with a scheme that we know.
    #[error(
        "`{0}` names no kind of store\n\
         hint: one of file:///DIRECTORY, memory:///, s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX"
    )]
    Scheme(String),
    /// It has a user, a password, a port, a query or a fragment.
    #[error(
        "the store's URL holds more than a bucket and a prefix\n\
         hint: credentials and endpoints come from the environment: AWS_*, AZURE_*, GOOGLE_*"
    )]
    TooMuch,
    /// It has no bucket.
    #[error(
        "`{scheme}://` lacks the name of a {what}\nhint: write it as {scheme}://{example}/PREFIX"
    )]
    NoBucket {
        /// What it begins with.
        scheme: &'static str,
        /// What the provider calls it.
        what: &'static str,
        /// The same, as a placeholder.
        example: &'static str,
    },
    /// `file://` without a third slash, or `memory://` with more.
    #[error(
        "`{0}` is no place on this machine\nhint: write it with three slashes: file:///srv/registry, memory:///"
    )]
    NotLocal(String),
    /// Its prefix cannot be part of a key.
    #[error(
        "`{0}` cannot begin the names of objects\nhint: leave out empty parts, `.`, `..` and control characters"
    )]
    Prefix(String),
}

impl Bucket {
    /// Returns whose API it speaks.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what all keys of the registry begin with; may be empty.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }
}

impl Provider {
    /// Returns the scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Amazon => "s3",
            Self::Azure => "az",
            Self::Google => "gs",
        }
    }

    /// Returns what it calls a bucket.
    pub fn bucket(self) -> &'static str {
        match self {
            Self::Amazon | Self::Google => "bucket",
            Self::Azure => "container",
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let unknown = || LocationError::Scheme(before(text, &['@', '?', '#']).to_owned());
        let url: Url = text.parse().map_err(|_| unknown())?;
        if !url.username().is_empty()
            || url.password().is_some()
            || url.port().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(LocationError::TooMuch);
        }
        let not_local = || LocationError::NotLocal(text.to_owned());
        let provider = match url.scheme() {
            "file" => {
                // `file:x` would be a path below the root.
                let rooted = text.to_ascii_lowercase().starts_with("file:///");
                let path = url.to_file_path().ok().filter(|_| rooted);
                return path.map(Self::Directory).ok_or_else(not_local);
            }
            "memory" => {
                let empty = url.host_str().is_none_or(str::is_empty);
                let empty = empty && matches!(url.path(), "" | "/");
                return empty.then_some(Self::Memory).ok_or_else(not_local);
            }
            "s3" => Provider::Amazon,
            "az" => Provider::Azure,
            "gs" => Provider::Google,
            _ => return Err(unknown()),
        };
        let name = url.host_str().filter(|name| !name.is_empty());
        let name = name.ok_or(LocationError::NoBucket {
            scheme: provider.scheme(),
            what: provider.bucket(),
            example: match provider {
                Provider::Azure => "CONTAINER",
                Provider::Amazon | Provider::Google => "BUCKET",
            },
        })?;
        let prefix = Path::from_url_path(url.path().trim_end_matches('/'))
            .map_err(|_| LocationError::Prefix(url.path().to_owned()))?;
        Ok(Self::Bucket(Bucket {
            provider,
            name: name.to_owned(),
            prefix,
        }))
    }
}

fn before<'a>(text: &'a str, stops: &[char]) -> &'a str {
    text.split(stops).next().unwrap_or_default()
}

impl fmt::Display for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, prefix, .. } = self;
        write!(formatter, "{}://{name}", self.provider.scheme())?;
        match prefix.as_ref() {
            "" => Ok(()),
            prefix => write!(formatter, "/{prefix}"),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(formatter, "file://{}", directory.display()),
            Self::Memory => formatter.write_str("memory:///"),
            Self::Bucket(bucket) => bucket.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location, LocationError> {
        text.parse()
    }

    #[test]
    fn places_are_read_as_written() {
        let table = [
            ("file:///srv/my%20registry", "file:///srv/my registry"),
            ("memory:///", "memory:///"),
            ("memory://", "memory:///"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://My_Bucket/a/b/", "s3://My_Bucket/a/b"),
            ("az://container/a", "az://container/a"),
            ("gs://bucket/a%20b", "gs://bucket/a b"),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!(
            parse("file:///srv/x").unwrap(),
            Location::Directory("/srv/x".into())
        );
    }

    #[test]
    fn what_names_no_place_is_refused_without_repeating_secrets() {
        for text in [
            "",
            "/srv/x",
            "srv",
            "ftp://x/y",
            "http://x",
            "s3a://x",
            "S3:",
        ] {
            let error = parse(text).unwrap_err();
            let expected = matches!(
                error,
                LocationError::Scheme(_) | LocationError::NoBucket { .. }
            );
            assert!(expected, "{text}: {error}");
        }
        for text in ["file:x", "file://host/x", "memory:///x", "memory://x/"] {
            assert!(
                matches!(parse(text), Err(LocationError::NotLocal(_))),
                "{text}"
            );
        }
        for text in ["s3:///x", "az://", "gs:///"] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, LocationError::NoBucket { .. }), "{text}");
        }
        for text in ["s3://b//x", "s3://b/x//y"] {
            assert!(
                matches!(parse(text), Err(LocationError::Prefix(_))),
                "{text}"
            );
        }
        for text in [
            "s3://key:hidden@bucket/x",
            "az://c/x?sig=hidden",
            "gs://bucket#hidden",
            "s3://bucket:99/x",
            "wrong://key:hidden@bucket",
            "hidden-not://[",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                !error.contains("hidden@") && !error.contains("sig="),
                "{error}"
            );
        }
    }
}
