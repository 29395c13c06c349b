//! TLS to a registry whose key is known by its fingerprint. Used by `transport` where one is
//! given.

use std::sync::Arc;

use deploy_spec::Digest;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{ClientError, Fingerprint};

/// What stands before the 65 bytes of the point in the certificate's key: SubjectPublicKeyInfo
/// of an uncompressed P-256 key (RFC 5480 §2).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Returns a TLS configuration that talks to this key and to no other. Names, dates and issuers
/// in the certificate mean nothing then: the key is the identity.
pub(super) fn config(fingerprint: Fingerprint) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Pinned {
        fingerprint,
        provider: provider.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Setup(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
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
            "its key has fingerprint `{found}`, not `{}`",
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
    let point = key.as_ref().strip_prefix(&P256_PREFIX);
    let point = point.filter(|point| point.len() == 65).ok_or_else(|| {
        Error::General("its key is no ECDSA key on P-256, which a fingerprint is of".to_owned())
    })?;
    let mut encoded = Vec::new();
    // RFC 5656 §3.1, each field with its length before it.
    for field in [&b"ecdsa-sha2-nistp256"[..], b"nistp256", point] {
        let length = u32::try_from(field.len()).expect("the fields are short");
        encoded.extend(length.to_be_bytes());
        encoded.extend(field);
    }
    let digest = hex::decode(Digest::sha256(&encoded).hex()).expect("a digest is hexadecimal");
    Ok(Fingerprint::new(
        digest.try_into().expect("SHA-256 has 32 bytes"),
    ))
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
