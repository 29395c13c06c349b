//! Where a registry is, as people write it. Parsed by whoever takes an address from a user.

use std::{fmt, net::IpAddr, str::FromStr};

use url::{Host, Url};

/// The address of a registry: `host:port`, `http://host[:port]` or `https://host[:port]`.
///
/// Without a scheme, a loopback address means plain HTTP unless a fingerprint is pinned, and
/// every other address HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: Option<Scheme>,
    /// Parsed as `https`, so that the default port of that scheme is left out.
    url: Url,
    explicit_port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing that names a host.
    #[error("`{}` is no registry address: it must read `host:port`, `http://host[:port]` or `https://host[:port]`", .0.escape_debug())]
    Malformed(String),
    /// A path, a query or a user behind the host: a registry has its API at the root.
    #[error("registry address `{}` holds more than a host and a port\nhint: a path in front of repository names is given by --prefix", .0.escape_debug())]
    MoreThanHost(String),
    /// A pinned key needs TLS.
    #[error(
        "address `{0}` is plain HTTP, where there is no key to compare a fingerprint with\nhint: write https://, or leave the fingerprint out"
    )]
    PinnedPlainHttp(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return Err(malformed()),
            None => (None, text),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(AddressError::MoreThanHost(text.to_owned()));
        }
        if authority.is_empty() || authority.contains(|c: char| c.is_whitespace() || c == '\\') {
            return Err(malformed());
        }
        let url = Url::parse(&format!("https://{authority}/")).map_err(|_| malformed())?;
        if url.host_str().is_none_or(str::is_empty) || authority.ends_with(':') {
            return Err(malformed());
        }
        let digits =
            |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let explicit_port = authority
            .rsplit_once(':')
            .filter(|(_, port)| digits(port))
            .and_then(|(_, port)| port.parse().ok());
        Ok(Self {
            scheme,
            url,
            explicit_port,
        })
    }
}

impl Address {
    /// True where the host is this machine itself: `localhost`, 127.0.0.0/8 or `::1`.
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
            None => false,
        }
    }

    /// True where `http://` stands in front of it.
    pub fn is_plain_by_choice(&self) -> bool {
        self.scheme == Some(Scheme::Http)
    }

    /// Returns `host` or `host:port`, as it stands in image references and auth files.
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.explicit_port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Returns the URL that the API's paths are joined to.
    ///
    /// # Errors
    /// [`AddressError::PinnedPlainHttp`] where `pinned` contradicts the scheme.
    pub(super) fn base(&self, pinned: bool) -> Result<Url, AddressError> {
        let scheme = match self.scheme {
            Some(Scheme::Http) if pinned => {
                return Err(AddressError::PinnedPlainHttp(self.to_string()));
            }
            Some(scheme) => scheme,
            None if self.is_loopback() && !pinned => Scheme::Http,
            None => Scheme::Https,
        };
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        Url::parse(&format!("{scheme}://{}/", self.authority()))
            .map_err(|_| AddressError::Malformed(self.to_string()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Some(Scheme::Http) => write!(formatter, "http://{}", self.authority()),
            Some(Scheme::Https) => write!(formatter, "https://{}", self.authority()),
            None => formatter.write_str(&self.authority()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_host_and_port_decide_the_url() {
        let table = [
            ("localhost:2022", false, "http://localhost:2022/"),
            ("localhost:2022", true, "https://localhost:2022/"),
            ("127.0.0.1:443", false, "http://127.0.0.1:443/"),
            ("[::1]:5000", false, "http://[::1]:5000/"),
            (
                "registry.example:2022",
                false,
                "https://registry.example:2022/",
            ),
            ("registry.example", false, "https://registry.example/"),
            (
                "http://registry.example:80/",
                false,
                "http://registry.example/",
            ),
            ("https://localhost:1", false, "https://localhost:1/"),
        ];
        for (text, pinned, expected) in table {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.base(pinned).unwrap().as_str(), expected, "{text}");
        }
    }

    #[test]
    fn addresses_display_as_they_were_written() {
        for text in [
            "localhost:2022",
            "http://a:80",
            "https://a:443",
            "[::1]:5000",
            "a",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "", ":2022", "ftp://a", "a b", "a:", "a:99999", "a:port", "http://",
        ] {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(
                matches!(error, AddressError::Malformed(_)),
                "{bad}: {error}"
            );
        }
        for bad in ["a/b", "http://a/b", "user@a", "a?x", "a#x"] {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(
                matches!(error, AddressError::MoreThanHost(_)),
                "{bad}: {error}"
            );
        }
        let plain: Address = "http://a:1".parse().unwrap();
        assert!(plain.base(true).is_err());
    }
}
