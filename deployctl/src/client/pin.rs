//! TLS to a registry: to a key that is known by its fingerprint, or to whomever the system trusts.
//! Used by `transport`.

use std::sync::Arc;

use deploy_spec::Fingerprint;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

use super::ClientError;

/// Returns a TLS configuration that talks to this key and to no other. Names, dates and issuers
/// in the certificate mean nothing then: the key is the identity. Without a key, it talks to
/// whomever the authorities of this machine vouch for.
pub(super) fn config(fingerprint: Option<Fingerprint>) -> Result<ClientConfig, ClientError> {
    let setup = |error: Error| ClientError::Setup(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match fingerprint {
        Some(fingerprint) => Arc::new(Pinned {
            fingerprint,
            provider: provider.clone(),
        }),
        None => Arc::new(Vouched(Verifier::new(provider.clone()).map_err(setup)?)),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What the system says of a certificate, and for one that it does not trust, which key that has.
#[derive(Debug)]
struct Vouched(Verifier);

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| {
            let Error::InvalidCertificate(reason) = &error else {
                return error;
            };
            let how = match of_certificate(end_entity) {
                Ok(found) => format!(
                    "; its key has fingerprint `{found}`\n\
                     hint: if that is what the registry logs when it starts, trust it with -fp {found}, or in DEPLOYCTL_FINGERPRINT"
                ),
                // A certificate of somebody else's, which no registry of ours logs.
                Err(_) => "\nhint: name the authority's own certificate in SSL_CERT_FILE".to_owned(),
            };
            Error::General(format!(
                "no authority that this machine trusts vouches for its certificate ({reason}){how}"
            ))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = of_certificate(end_entity)?;
        if found == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!(
            "its key has fingerprint `{found}`, not `{}`\n\
             hint: either it got a new key, and logs that fingerprint when it starts, or somebody else answers in its place",
            self.fingerprint
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Returns the fingerprint of a certificate's key, which is that of the same key in SSH.
fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Fingerprint, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let key = parsed.subject_public_key_info();
    Fingerprint::of_public_key_info(&key).ok_or_else(|| {
        Error::General("its key is no ECDSA key on P-256, which a fingerprint is of".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_the_one_that_openssh_shows() {
        let certificate =
            CertificateDer::from(&include_bytes!("../../tests/fixtures/certificate.der")[..]);
        let fingerprint = of_certificate(&certificate).unwrap();
        // `ssh-keygen -l -f` of the same key.
        let shown = "SHA256:zPy7elP5hNcnQlTKNwJoZpx4ZeLHaaFEnoREiS1+pQI";
        assert_eq!(fingerprint.to_string(), shown);
    }
}
