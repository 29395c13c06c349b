//! TLS as the server speaks it: 1.3 and 1.2, HTTP/2 and HTTP/1.1, with a certificate that can be
//! replaced while connections go on. Made by `main`.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use deploy_spec::Fingerprint;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use crate::identity::{Identity, IdentityError};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The registry's own one cannot be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file holds none.
    #[error("`{}` holds no {what} in PEM", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it was not found.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not belong together, or are of a kind that TLS does not know.
    #[error("certificate and key of the registry are of no use: {0}")]
    Unusable(rustls::Error),
}

/// How the server speaks TLS. Cheap to clone; all clones change their certificate together.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

impl Tls {
    /// Returns TLS with a certificate of the registry's own key, for these names.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn of_identity(identity: &Identity, names: &[String]) -> Result<Self, TlsError> {
        let chain = vec![identity.certificate(names)?];
        Self::new(&certified(chain, identity.private_key())?)
    }

    /// Returns TLS with a certificate and a key from files, each in PEM; the certificate's issuers
    /// follow it.
    ///
    /// # Errors
    /// [`TlsError`], with the file.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::new(&read(certificate, key)?)
    }

    fn new(certified: &Arc<CertifiedKey>) -> Result<Self, TlsError> {
        let certificate = Arc::new(Certificate(RwLock::new(Arc::clone(certified))));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate,
        })
    }

    /// Reads a certificate and a key anew; connections to come get them. Without a usable pair
    /// everything stays as it is.
    ///
    /// # Errors
    /// [`TlsError`], with the file.
    pub fn reload(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        let certified = read(certificate, key)?;
        let mut current = (self.certificate.0)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = certified;
        Ok(())
    }

    /// Returns the fingerprint of the certificate's key, where that is one on P-256.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        let certified = self.certificate.current();
        let parsed = ParsedCertificate::try_from(certified.end_entity_cert().ok()?).ok()?;
        Fingerprint::of_public_key_info(&parsed.subject_public_key_info())
    }

    /// Whether the certificate is for this host name or address.
    pub fn is_for(&self, host: &str) -> bool {
        let certified = self.certificate.current();
        let Ok(certificate) = certified.end_entity_cert() else {
            return false;
        };
        let (Ok(parsed), Ok(name)) = (
            ParsedCertificate::try_from(certificate),
            ServerName::try_from(host),
        ) else {
            return false;
        };
        verify_server_name(&parsed, &name).is_ok()
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}

/// Whatever a client asks for, it gets the one that there is.
struct Certificate(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Certificate")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed("certificate", certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(failed("private key", key))?;
    certified(chain, key)
}

/// Puts the two together, if they belong together.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let certified = CertifiedKey::from_der(chain, key, &provider());
    certified.map(Arc::new).map_err(TlsError::Unusable)
}
