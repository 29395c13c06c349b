//! Digests of content (OCI image-spec, "Digests") and the hashers that compute them.
//! Everything that names content by digest goes through [`Digest`]; a raw string never does.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

/// The algorithms that the tools accept and compute: the registered ones of OCI image-spec
/// that clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, the one that everybody understands.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, the usual one first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Returns the registered identifier, `sha256` or `sha512`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Returns the length of the encoded part in hexadecimal digits.
    pub const fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| DigestError::UnsupportedAlgorithm(text.to_owned()))
    }
}

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No colon, an empty part, or characters outside the grammar.
    #[error("`{0}` is no digest: it must read `<algorithm>:<hexadecimal digits>`")]
    Malformed(String),
    /// Well formed, but of an algorithm that is not computed here.
    #[error("digest algorithm `{0}` is not supported: use `sha256` or `sha512`")]
    UnsupportedAlgorithm(String),
    /// The encoded part is not as many lower-case hexadecimal digits as the algorithm has.
    #[error("`{digest}` is no {algorithm} digest: it needs {} lower-case hexadecimal digits", algorithm.hex_length())]
    Encoding {
        /// What was given.
        digest: String,
        /// What its prefix announces.
        algorithm: Algorithm,
    },
    /// A saved hash state is not one of this algorithm.
    #[error("the saved {0} state is damaged")]
    State(Algorithm),
}

/// The digest of some content: an algorithm and its value, always well formed.
///
/// Displays as `sha256:<64 hexadecimal digits>` or `sha512:<128 …>`; parsing and displaying
/// are inverse. Sorted by algorithm, then value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// Returns the digest of `content` by `algorithm`.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// Returns the SHA-256 digest of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, content)
    }

    /// Returns the digest with this hexadecimal value.
    ///
    /// # Errors
    /// [`DigestError::Encoding`] where it is not exactly as many lower-case digits as needed.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Result<Self, DigestError> {
        let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() != algorithm.hex_length() || !hex.bytes().all(lower_hex) {
            return Err(DigestError::Encoding {
                digest: format!("{algorithm}:{hex}"),
                algorithm,
            });
        }
        Ok(Self {
            algorithm,
            hex: hex.into(),
        })
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the value in lower-case hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// Returns the first twelve hexadecimal digits, for people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }

    /// Returns the digest as a file name: `sha256-<hex>`.
    ///
    /// A colon would break variables in the manner of `PATH` that such a name ends up in.
    pub fn file_name(&self) -> String {
        format!("{}-{}", self.algorithm, self.hex)
    }

    /// Returns the digest that [`Digest::file_name`] was made from.
    ///
    /// # Errors
    /// As for parsing.
    pub fn from_file_name(name: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = name
            .split_once('-')
            .ok_or_else(|| DigestError::Malformed(name.to_owned()))?;
        Self::from_hex(algorithm.parse()?, hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::Malformed(text.to_owned());
        let (algorithm, encoded) = text.split_once(':').ok_or_else(malformed)?;
        let in_algorithm = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+._-".contains(&byte)
        };
        let in_encoded = |byte: u8| byte.is_ascii_alphanumeric() || b"=_-".contains(&byte);
        if algorithm.is_empty()
            || encoded.is_empty()
            || !algorithm.bytes().all(in_algorithm)
            || !encoded.bytes().all(in_encoded)
        {
            return Err(malformed());
        }
        Self::from_hex(algorithm.parse()?, encoded)
    }
}

impl TryFrom<&oci_spec::image::Digest> for Digest {
    type Error = DigestError;

    fn try_from(digest: &oci_spec::image::Digest) -> Result<Self, DigestError> {
        digest.as_ref().parse()
    }
}

impl From<&Digest> for oci_spec::image::Digest {
    fn from(digest: &Digest) -> Self {
        digest
            .to_string()
            .parse()
            .expect("this grammar is a part of theirs")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a digest piece by piece, and can be saved between two pieces.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Returns a hasher that has seen nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Returns which digest is computed.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes the next piece of the content in.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(piece),
            State::Sha512(hasher) => hasher.update(piece),
        }
    }

    /// Returns the digest of all pieces seen.
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self.0 {
            State::Sha256(hasher) => (Algorithm::Sha256, hex::encode(hasher.finalize())),
            State::Sha512(hasher) => (Algorithm::Sha512, hex::encode(hasher.finalize())),
        };
        Digest {
            algorithm,
            hex: hex.into(),
        }
    }

    /// Returns the state between two pieces, for [`Hasher::resume`]: about 100 bytes for
    /// SHA-256, 200 for SHA-512. It holds up to one block of the content itself, and ends in
    /// a checksum: a state that was damaged where it was kept would otherwise go on silently,
    /// or overflow the hasher's own counters.
    pub fn state(&self) -> Vec<u8> {
        let mut state = match &self.0 {
            State::Sha256(hasher) => hasher.serialize().to_vec(),
            State::Sha512(hasher) => hasher.serialize().to_vec(),
        };
        let checksum = checksum(&state);
        state.extend(checksum);
        state
    }

    /// Returns a hasher that goes on where [`Hasher::state`] was taken.
    ///
    /// # Errors
    /// [`DigestError::State`] where the bytes are no state of this algorithm.
    pub fn resume(algorithm: Algorithm, state: &[u8]) -> Result<Self, DigestError> {
        let damaged = || DigestError::State(algorithm);
        let (state, found) = state
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or_else(damaged)?;
        if checksum(state) != *found {
            return Err(damaged());
        }
        Ok(Self(match algorithm {
            Algorithm::Sha256 => {
                let state = SerializedState::<Sha256>::try_from(state).map_err(|_| damaged())?;
                State::Sha256(Sha256::deserialize(&state).map_err(|_| damaged())?)
            }
            Algorithm::Sha512 => {
                let state = SerializedState::<Sha512>::try_from(state).map_err(|_| damaged())?;
                State::Sha512(Sha512::deserialize(&state).map_err(|_| damaged())?)
            }
        }))
    }
}

const CHECKSUM_BYTES: usize = 8;

fn checksum(state: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::digest(state);
    std::array::from_fn(|index| hash[index])
}

impl fmt::Debug for Hasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hasher({})", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::sha256(b""));
        assert_eq!(Digest::sha256(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn bad_digests_are_refused_with_their_reason() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        for text in [
            "",
            "sha256",
            ":abc",
            "sha256:",
            "sha256:a/b",
            "Sha256:ab",
            "sha 256:ab",
        ] {
            assert!(
                matches!(text.parse::<Digest>(), Err(DigestError::Malformed(_))),
                "{text}"
            );
        }
        for text in ["sha256:ab", &upper, &format!("{EMPTY}0"), "sha512:ab"] {
            assert!(
                matches!(text.parse::<Digest>(), Err(DigestError::Encoding { .. })),
                "{text}"
            );
        }
        assert_eq!(
            "md5:d41d8cd98f00b204e9800998ecf8427e".parse::<Digest>(),
            Err(DigestError::UnsupportedAlgorithm("md5".into()))
        );
    }

    #[test]
    fn damaged_hash_states_are_refused() {
        for algorithm in Algorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&[7; 200]);
            let state = hasher.state();
            for index in 0..state.len() {
                let mut damaged = state.clone();
                damaged[index] ^= 0xff;
                assert!(Hasher::resume(algorithm, &damaged).is_err(), "byte {index}");
            }
            assert!(Hasher::resume(algorithm, &state[1..]).is_err());
            assert!(Hasher::resume(algorithm, &[]).is_err());
        }
        let state = Hasher::new(Algorithm::Sha512).state();
        assert!(Hasher::resume(Algorithm::Sha256, &state).is_err());
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_display(content: Vec<u8>, long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let digest = Digest::of(algorithm, &content);
            prop_assert_eq!(&digest.to_string().parse::<Digest>().unwrap(), &digest);
            prop_assert_eq!(&Digest::from_file_name(&digest.file_name()).unwrap(), &digest);
            let theirs = oci_spec::image::Digest::from(&digest);
            prop_assert_eq!(&Digest::try_from(&theirs).unwrap(), &digest);
        }

        #[test]
        fn hasher_resumed_anywhere_gives_the_same_digest(content: Vec<u8>, cut: prop::sample::Index) {
            for algorithm in Algorithm::ALL {
                let cut = cut.index(content.len() + 1);
                let mut hasher = Hasher::new(algorithm);
                hasher.update(&content[..cut]);
                let mut hasher = Hasher::resume(algorithm, &hasher.state()).unwrap();
                hasher.update(&content[cut..]);
                prop_assert_eq!(hasher.finish(), Digest::of(algorithm, &content));
            }
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<Digest>();
            let _ = Digest::from_file_name(&text);
            let _ = Hasher::resume(Algorithm::Sha256, text.as_bytes());
        }
    }
}
