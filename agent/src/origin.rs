//! Where releases come from, as people write it: a registry, or a layout on a disk. `arguments`
//! parses it, `settings` opens it.

use std::{fmt, path::PathBuf, str::FromStr};

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

#[cfg(test)]
mod tests {
    use super::*;

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
