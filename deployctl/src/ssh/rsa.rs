//! Signatures of RSA keys (RFC 8332), which `ssh-key` verifies and, as it takes one of the two primes
//! twice, cannot make.

use rsa::{
    BigUint, RsaPrivateKey,
    pkcs1v15::SigningKey,
    sha2::Sha512,
    signature::{SignatureEncoding as _, Signer as _},
};
use ssh_key::{Algorithm, Error, HashAlg, Mpint, Signature, private::RsaKeypair};

/// A key that is shorter is no proof of anything.
const BITS_MIN: usize = 2048;

/// Returns the signature of these bytes, with SHA-512.
pub(super) fn sign(key: &RsaKeypair, data: &[u8]) -> Result<Signature, Error> {
    let number = |number: &Mpint| BigUint::try_from(number);
    let private = RsaPrivateKey::from_components(
        number(&key.public.n)?,
        number(&key.public.e)?,
        number(&key.private.d)?,
        vec![number(&key.private.p)?, number(&key.private.q)?],
    )
    .map_err(|_| Error::Crypto)?;
    if rsa::traits::PublicKeyParts::size(&private) * 8 < BITS_MIN {
        return Err(Error::Crypto);
    }
    let signature = SigningKey::<Sha512>::new(private).try_sign(data);
    let signature = signature.map_err(|_| Error::Crypto)?.to_vec();
    let algorithm = Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    };
    Signature::new(algorithm, signature)
}
