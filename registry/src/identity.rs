//! Who the registry is: one ECDSA key on P-256, which its certificate has, which clients pin by its
//! fingerprint, and which signs what it gives out. Opened by `main`, used by `server`.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use deploy_spec::Fingerprint;
use p256::{
    SecretKey,
    ecdsa::{DerSignature, SigningKey, signature::Signer as _},
    elliptic_curve::{Generate as _, sec1::ToSec1Point as _},
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding},
};
use rcgen::{CertificateParams, DnType, KeyIdMethod, PublicKeyData, SerialNumber};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Everybody else may not even read it.
const MODE: u32 = 0o600;
/// More than any such file has.
const BYTES_MAX: u64 = 16 << 10;
/// A certificate lasts as long as its key: whoever trusts it pins that.
const YEARS: (i32, i32) = (2000, 9999);

/// The registry's key. Never shown by its `Debug`.
pub struct Identity {
    key: SecretKey,
    /// Uncompressed (SEC 1 §2.3.3), as certificates have it.
    point: Vec<u8>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or made.
    #[error("cannot {action} the registry's key `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What is there is no such key.
    #[error(
        "`{place}` holds no ECDSA key on P-256 in PEM\n\
         hint: one is made when the file is missing, or by `openssl ecparam -name prime256v1 -genkey -noout`"
    )]
    NoKey {
        /// The file, or the variable of the environment.
        place: String,
    },
    /// A certificate cannot have such a name.
    #[error("names of a certificate are host names and addresses: `{}` are not", .0.join("`, `"))]
    Name(Vec<String>),
    /// Others than the registry's user may read it.
    #[error(
        "`{}` may be read by others than its owner (mode {mode:o})\nhint: `chmod 600` it, and replace it if anybody has",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Identity {
    /// Returns a new key, which nobody has seen.
    pub fn generate() -> Self {
        Self::new(SecretKey::generate())
    }

    /// Returns the key in the file, which is made with a new one (mode 0600, synced, whole or not
    /// at all) where it is not there.
    ///
    /// # Errors
    /// [`IdentityError`], with the file. A file that is there is never replaced.
    pub fn open_or_create(path: &Path) -> Result<Self, IdentityError> {
        if let Some(found) = Self::open(path)? {
            return Ok(found);
        }
        let failed = |source| IdentityError::File {
            action: "make",
            path: path.to_owned(),
            source,
        };
        let new = Self::generate();
        match new.write(path) {
            Ok(()) => Ok(new),
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::open(path)?.ok_or_else(|| failed(error))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns the key in the file; nothing where it is not there.
    ///
    /// # Errors
    /// [`IdentityError`], with the file.
    pub fn open(path: &Path) -> Result<Option<Self>, IdentityError> {
        use io::Read as _;
        let failed = |source| IdentityError::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(IdentityError::Exposed { path, mode });
        }
        let mut pem = String::new();
        let read = file.take(BYTES_MAX).read_to_string(&mut pem);
        read.map_err(failed)?;
        Self::parse(&pem, &path.display().to_string()).map(Some)
    }

    /// Returns the key in a text: PEM, of PKCS #8 or of SEC 1. `place` is what errors call it.
    ///
    /// # Errors
    /// [`IdentityError::NoKey`].
    pub fn parse(pem: &str, place: &str) -> Result<Self, IdentityError> {
        let key = SecretKey::from_pkcs8_pem(pem.trim())
            .ok()
            .or_else(|| SecretKey::from_sec1_pem(pem.trim()).ok());
        key.map(Self::new).ok_or_else(|| IdentityError::NoKey {
            place: place.to_owned(),
        })
    }

    fn new(key: SecretKey) -> Self {
        let point = key.public_key().to_sec1_point(false).as_bytes().to_vec();
        Self { key, point }
    }

    /// Links a finished file to its name: nobody finds half of it.
    fn write(&self, path: &Path) -> io::Result<()> {
        let pem = self.key.to_pkcs8_pem(LineEnding::LF);
        let pem = pem.map_err(io::Error::other)?;
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(MODE);
        let mut file = options.open(&unfinished)?;
        let written = file
            .write_all(pem.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&unfinished, path));
        fs::remove_file(&unfinished)?;
        written?;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Returns the fingerprint by which clients know the key.
    pub fn fingerprint(&self) -> Fingerprint {
        let encoded = self.key.public_key().to_public_key_der();
        let encoded = encoded.expect("the key was encoded before");
        Fingerprint::of_public_key_info(encoded.as_bytes()).expect("it is a key on P-256")
    }

    /// Returns a certificate of the key, signed by itself, for these names. The same key and names
    /// give the same bytes, whoever asks, and whenever.
    ///
    /// # Errors
    /// [`IdentityError::Name`].
    pub(crate) fn certificate(
        &self,
        names: &[String],
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let mut parameters =
            CertificateParams::new(names).map_err(|_| IdentityError::Name(names.to_vec()))?;
        let identifier = deploy_spec::Digest::sha256(&self.point);
        let identifier = identifier.hex().as_bytes();
        parameters.serial_number = Some(SerialNumber::from_slice(&identifier[..16]));
        parameters.key_identifier_method = KeyIdMethod::PreSpecified(identifier[..20].to_vec());
        parameters.not_before = rcgen::date_time_ymd(YEARS.0, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(YEARS.1, 12, 31);
        parameters
            .distinguished_name
            .push(DnType::CommonName, "deploy-registry");
        let certificate = parameters.self_signed(self);
        Ok(certificate.expect("signing fails never").der().clone())
    }

    /// Returns the coordinates of the public key's point, 32 bytes each.
    pub(crate) fn coordinates(&self) -> (&[u8], &[u8]) {
        // Behind a byte that says that both are there.
        self.point[1..].split_at(32)
    }

    /// Returns the key as TLS takes it.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        let encoded = self.key.to_pkcs8_der();
        let encoded = encoded.expect("the key was encoded before");
        PrivatePkcs8KeyDer::from(encoded.as_bytes().to_vec()).into()
    }
}

impl PublicKeyData for Identity {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Identity {
    /// The nonce is made of key and message (RFC 6979), so that one message has one signature.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = SigningKey::from(&self.key).sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl ecparam -name prime256v1 -genkey -noout`; what `ssh-keygen -l` says of it.
    const SEC1: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIPcOlwAbXoAvLSwjbOM4ABrhpEGybOT9G/lbtELuSPsxoAoGCCqGSM49
AwEHoUQDQgAEHcXZzEsrFKRMlKa1fKMzzrtzRvIi1ZTFbNy1N5P1cP6Wop7lUXbj
Hh0VsKtY55N8r2+2tx2cqsilBkwy37JZdA==
-----END EC PRIVATE KEY-----\
";
    const SHOWN: &str = "SHA256:QB4bgi2bxqsl7F4VE7ueYoRMIl2GgXMzwVdDzqXb+l4";

    #[test]
    fn keys_of_either_form_are_read() {
        let key = Identity::parse(SEC1, "here").unwrap();
        assert_eq!(key.fingerprint().to_string(), SHOWN);
        let pem = key.key.to_pkcs8_pem(LineEnding::CRLF).unwrap();
        let same = Identity::parse(&pem, "here").unwrap();
        assert_eq!(same.fingerprint(), key.fingerprint());
        assert!(format!("{key:?}").ends_with(&format!("({SHOWN})")));
        for bad in ["", "-----BEGIN EC PRIVATE KEY-----", "ssh-ed25519 AAAA"] {
            let error = Identity::parse(bad, "`here`").unwrap_err();
            assert!(error.to_string().contains("`here`"), "{error}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("host_key");
        assert!(Identity::open(&path).unwrap().is_none());
        let made = Identity::open_or_create(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Identity::open_or_create(&path).unwrap();
        assert_eq!(again.fingerprint(), made.fingerprint());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::open_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("640"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "garbage").unwrap();
        assert!(Identity::open_or_create(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "garbage");
    }

    #[test]
    fn one_key_has_one_certificate() {
        let key = Identity::generate();
        let names = ["localhost".to_owned(), "::1".to_owned()];
        let certificate = key.certificate(&names).unwrap();
        assert_eq!(certificate, key.certificate(&names).unwrap());
        let parsed = rustls::server::ParsedCertificate::try_from(&certificate).unwrap();
        let found = Fingerprint::of_public_key_info(&parsed.subject_public_key_info());
        assert_eq!(found, Some(key.fingerprint()));
        assert!(key.certificate(&["ä".to_owned()]).is_err());
    }
}
