//! Where releases come from, as people write it: a registry, or a layout on a disk; and a mirror,
//! with the key that it has. `arguments` parses them, `settings` opens them.

use std::{error::Error, fmt, path::PathBuf, str::FromStr};

use deploy_spec::Fingerprint;
use deployctl::client::{Address, AddressError};

/// `host:port`, `http://host[:port]`, `https://host[:port]`, `oci:DIRECTORY` or
/// `oci-archive:FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Registry(Address),
    Layout(PathBuf),
    Archive(PathBuf),
}

impl FromStr for Origin {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.split_once(':') {
            Some(("oci", path)) if !path.is_empty() && !is_port(path) => {
                Ok(Self::Layout(path.into()))
            }
            Some(("oci-archive", path)) if !path.is_empty() && !is_port(path) => {
                Ok(Self::Archive(path.into()))
            }
            _ => text.parse().map(Self::Registry),
        }
    }
}

/// A host may be called `oci`.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(address) => address.fmt(formatter),
            Self::Layout(path) => write!(formatter, "oci:{}", path.display()),
            Self::Archive(path) => write!(formatter, "oci-archive:{}", path.display()),
        }
    }
}

/// Where layers may come from besides: an [`Origin`], for a registry with `#SHA256:…` behind it
/// where its key is known. The key of `-addr` is not a mirror's, and a mirror's is not that of
/// `-addr`: whoever has it must not be able to say what the channel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) origin: Origin,
    pub(crate) fingerprint: Option<Fingerprint>,
}

impl FromStr for Mirror {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (origin, fingerprint) = match text.split_once('#') {
            // In the name of a layout it may stand.
            Some((origin, fingerprint)) if matches!(origin.parse(), Ok(Origin::Registry(_))) => {
                (origin, Some(fingerprint.parse()?))
            }
            _ => (text, None),
        };
        Ok(Self {
            origin: origin.parse()?,
            fingerprint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_may_have_its_own_key() {
        let key = "SHA256:zPy7elP5hNcnQlTKNwJoZpx4ZeLHaaFEnoREiS1+pQI";
        let pinned: Mirror = format!("near.example:5000#{key}").parse().unwrap();
        assert_eq!(pinned.origin.to_string(), "near.example:5000");
        assert_eq!(pinned.fingerprint, Some(key.parse().unwrap()));
        for text in [
            "near.example:5000",
            "oci:a#b",
            "oci-archive:/srv/a#SHA256:b",
        ] {
            let mirror: Mirror = text.parse().unwrap();
            assert_eq!(mirror.origin.to_string(), text);
            assert_eq!(mirror.fingerprint, None);
        }
        for wrong in [
            "near.example#",
            "near.example#SHA256:ab",
            "near.example#x",
            "#",
            "",
        ] {
            assert!(wrong.parse::<Mirror>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn layouts_are_told_from_registries() {
        for (text, expected) in [
            ("oci:/srv/bundle", Origin::Layout("/srv/bundle".into())),
            ("oci:bundle", Origin::Layout("bundle".into())),
            ("oci-archive:b.tar", Origin::Archive("b.tar".into())),
            ("oci:5000", Origin::Registry("oci:5000".parse().unwrap())),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(origin, expected);
            assert_eq!(origin.to_string(), text);
        }
        let registry: Origin = "localhost:2022".parse().unwrap();
        assert!(matches!(registry, Origin::Registry(_)));
        for wrong in ["oci:", "oci-archive:", "http:", "oci:/srv bundle/../"] {
            let parsed: Result<Origin, _> = wrong.parse();
            assert_eq!(parsed.is_ok(), wrong.starts_with("oci:/"), "{wrong}");
        }
    }
}
