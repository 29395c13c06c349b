//! Platforms of images, and the choice among those that an index has. Called by sources.

use std::{fmt, str::FromStr};

use deploy_spec::Descriptor;

/// What an image is made to run on, in Go's words: `linux/amd64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The architecture.
    pub architecture: String,
    /// Its variant; images often leave it out.
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no platform: it must be `os/architecture[/variant]`, such as `linux/arm64`", .0.escape_debug())]
pub struct PlatformError(String);

impl Platform {
    /// Returns the platform of Linux on an architecture, in Go's name for it.
    pub fn linux(architecture: &str) -> Self {
        Self::new("linux", architecture, None)
    }

    fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let variant = variant.filter(|variant| !variant.is_empty());
        // Other names for the same, as containerd knows them.
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64", variant) => ("arm64", variant),
            ("i386" | "i686", variant) => ("386", variant),
            ("armhf", None) => ("arm", Some("v7")),
            ("armel", None) => ("arm", Some("v6")),
            other => other,
        };
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Returns the platform that a descriptor names.
    pub(crate) fn of(descriptor: &Descriptor) -> Option<Self> {
        let platform = descriptor.platform.as_ref()?;
        Some(Self::new(
            &platform.os().to_string(),
            &platform.architecture().to_string(),
            platform.variant().as_deref(),
        ))
    }

    /// Returns the platform that an image configuration names.
    pub(crate) fn of_config(config: &serde_json::Map<String, serde_json::Value>) -> Option<Self> {
        let text = |key: &str| config.get(key)?.as_str();
        Some(Self::new(
            text("os")?,
            text("architecture")?,
            text("variant"),
        ))
    }

    /// Returns the variants that run here, the best first, as containerd and skopeo choose.
    fn variants(&self) -> Vec<Option<String>> {
        let number = |variant: &Option<String>| -> Option<u32> {
            variant.as_deref()?.strip_prefix('v')?.parse().ok()
        };
        let down_to = |first: u32, last: u32| (last..=first).rev().map(|n| Some(format!("v{n}")));
        match (self.architecture.as_str(), number(&self.variant)) {
            // Every arm64 is v8; every amd64 is v1.
            ("arm64", None | Some(8)) => vec![None, Some("v8".into())],
            ("arm64", Some(_)) => vec![self.variant.clone(), Some("v8".into()), None],
            ("amd64", None | Some(1)) => vec![None, Some("v1".into())],
            ("amd64", Some(level)) => down_to(level.min(9), 1).chain([None]).collect(),
            ("arm", level) => down_to(level.unwrap_or(7).min(9), 5)
                .chain([None])
                .collect(),
            _ => match self.variant {
                Some(_) => vec![self.variant.clone()],
                None => vec![None],
            },
        }
    }

    /// Returns which of these manifests is for this platform: the best one, or else the only one
    /// that does not say what it is for. What is no image, such as an attestation, is passed over.
    pub(crate) fn choose<'a>(&self, manifests: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let of = |variant: &Option<String>| {
            let wanted = Self {
                variant: variant.clone(),
                ..self.clone()
            };
            let mut all = manifests.iter();
            all.find(|manifest| Self::of(manifest).as_ref() == Some(&wanted))
        };
        if let Some(found) = self.variants().iter().find_map(of) {
            return Some(found);
        }
        let mut silent = manifests
            .iter()
            .filter(|manifest| manifest.platform.is_none());
        match (silent.next(), silent.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// True where an image for that platform runs on this one.
    pub(crate) fn runs(&self, image: &Self) -> bool {
        self.os == image.os
            && self.architecture == image.architecture
            && self.variants().contains(&image.variant)
    }
}

/// Returns the platforms that these manifests are for, for messages.
pub(crate) fn offered(manifests: &[Descriptor]) -> Vec<String> {
    let known = manifests.iter().filter_map(Platform::of);
    let mut texts: Vec<String> = known
        .filter(|platform| platform.os != "unknown")
        .map(|platform| platform.to_string())
        .collect();
    texts.sort();
    texts.dedup();
    texts
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty() && part.bytes().all(fits)
        };
        match parts[..] {
            _ if !parts.iter().all(is_word) => Err(PlatformError(text.to_owned())),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifests(platforms: &[&str]) -> Vec<Descriptor> {
        let manifest = |platform: &&str| {
            let mut parts = platform.split('/');
            let mut part = || parts.next().map(str::to_owned);
            let json = match *platform {
                "" => serde_json::Value::Null,
                _ => serde_json::json!({"os": part(), "architecture": part(), "variant": part()}),
            };
            let digest = deploy_spec::Digest::sha256(platform.as_bytes());
            let json = serde_json::json!({"mediaType": "a/b", "digest": digest, "size": 1,
                "platform": json});
            serde_json::from_value(json).unwrap()
        };
        platforms.iter().map(manifest).collect()
    }

    #[test]
    fn the_best_variant_is_chosen() {
        let table: [(&str, &[&str], Option<usize>); 16] = [
            ("linux/amd64", &["linux/arm64", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/arm64"], None),
            ("linux/amd64", &["windows/amd64"], None),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3"], None),
            (
                "linux/amd64/v3",
                &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"],
                Some(1),
            ),
            ("linux/arm64", &["linux/arm64/v8"], Some(0)),
            ("linux/arm64/v8", &["linux/arm64"], Some(0)),
            (
                "linux/arm64/v9",
                &["linux/arm64", "linux/arm64/v8"],
                Some(1),
            ),
            (
                "linux/arm",
                &["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"],
                Some(1),
            ),
            (
                "linux/arm/v6",
                &["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"],
                Some(2),
            ),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm"], Some(1)),
            ("linux/s390x", &["linux/s390x"], Some(0)),
            ("linux/amd64", &["unknown/unknown", ""], Some(1)),
            ("linux/amd64", &["", ""], None),
            ("linux/amd64", &["unknown/unknown"], None),
        ];
        for (wanted, there, expected) in table {
            let manifests = manifests(there);
            let wanted: Platform = wanted.parse().unwrap();
            let chosen = wanted.choose(&manifests);
            let expected = expected.map(|index| &manifests[index]);
            assert_eq!(chosen, expected, "{wanted} of {there:?}");
        }
    }

    #[test]
    fn platforms_are_read_and_shown() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        assert_eq!("linux/aarch64".parse(), Ok(Platform::linux("arm64")));
        assert_eq!(
            "linux/armhf".parse::<Platform>().unwrap().to_string(),
            "linux/arm/v7"
        );
        for bad in ["", "linux", "linux/", "/amd64", "linux/a/b/c", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        let offered = offered(&manifests(&[
            "linux/b",
            "unknown/unknown",
            "linux/a/v1",
            "",
            "linux/b",
        ]));
        assert_eq!(offered, ["linux/a/v1", "linux/b"]);
    }
}
