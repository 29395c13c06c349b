//! ECDSA keys whose number begins with a zero byte, as every fourth on P-521 does: OpenSSH writes
//! numbers without such bytes (RFC 4251 §5, mpint), and `ssh-key` reads only those of full length.
//! Here the number gets them back before `ssh-key` reads the key.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ssh_key::{Error, PrivateKey, private::KeypairData};

const MAGIC: &[u8] = b"openssh-key-v1\0";
/// The number of bytes that each algorithm's numbers have.
const LENGTHS: [(&[u8], usize); 3] = [
    (b"ecdsa-sha2-nistp256", 32),
    (b"ecdsa-sha2-nistp384", 48),
    (b"ecdsa-sha2-nistp521", 66),
];
/// What the private part is padded to without a cipher.
const BLOCK: usize = 8;

/// Returns the key in the text of a file.
///
/// # Errors
/// What `ssh-key` says of anything else that it does not read.
pub(super) fn parse(text: &str) -> Result<PrivateKey, Error> {
    PrivateKey::from_openssh(text).or_else(|error| read(text).ok_or(error))
}

/// Returns a key without its passphrase.
///
/// # Errors
/// What `ssh-key` says, where the passphrase is wrong.
pub(super) fn decrypt(key: &PrivateKey, passphrase: &str) -> Result<PrivateKey, Error> {
    let error = match key.decrypt(passphrase) {
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    let KeypairData::Encrypted(encrypted) = key.key_data() else {
        return Err(error);
    };
    let (secret, start) = key.kdf().derive_key_and_iv(key.cipher(), passphrase)?;
    let mut private = encrypted.clone();
    // Ciphers with a tag are left out: what it is, the library does not say.
    key.cipher()
        .decrypt(&secret, &start, &mut private, None)
        .map_err(|_| Error::Crypto)?;
    pad(&key.public_key().to_bytes()?, &private).ok_or(error)
}

/// Reads a file without a passphrase (PROTOCOL.key of OpenSSH).
fn read(text: &str) -> Option<PrivateKey> {
    let lines = text.trim().lines().filter(|line| !line.starts_with('-'));
    let encoded: String = lines.map(str::trim).collect();
    let bytes = STANDARD.decode(encoded).ok()?;
    let mut rest = bytes.strip_prefix(MAGIC)?;
    for expected in [&b"none"[..], b"none", b""] {
        (text_of(&mut rest)? == expected).then_some(())?;
    }
    (number_of(&mut rest)? == 1).then_some(())?;
    let public = text_of(&mut rest)?;
    pad(public, text_of(&mut rest)?)
}

/// Returns the key with this private part, whose number may be short.
fn pad(public: &[u8], private: &[u8]) -> Option<PrivateKey> {
    let mut rest = private;
    let checks = [number_of(&mut rest)?, number_of(&mut rest)?];
    // They differ where a passphrase is wrong.
    (checks[0] == checks[1]).then_some(())?;
    let [algorithm, curve, point] = [(); 3].map(|()| text_of(&mut rest));
    let (algorithm, curve, point) = (algorithm?, curve?, point?);
    let (_, length) = LENGTHS.iter().find(|(name, _)| *name == algorithm)?;
    let (secret, comment) = (text_of(&mut rest)?, text_of(&mut rest)?);
    let mut full = vec![0; length.checked_sub(secret.len())?];
    full.extend_from_slice(secret);

    let mut padded = Vec::new();
    for check in checks {
        padded.extend(check.to_be_bytes());
    }
    for text in [algorithm, curve, point, &full, comment] {
        put(&mut padded, text)?;
    }
    padded.extend((1..).take(padded.len().next_multiple_of(BLOCK) - padded.len()));
    let mut bytes = MAGIC.to_vec();
    for text in [&b"none"[..], b"none", b""] {
        put(&mut bytes, text)?;
    }
    bytes.extend(1_u32.to_be_bytes());
    for text in [public, &padded] {
        put(&mut bytes, text)?;
    }
    PrivateKey::from_bytes(&bytes).ok()
}

fn number_of(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

fn text_of<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number_of(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}

fn put(bytes: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    bytes.extend(u32::try_from(text.len()).ok()?.to_be_bytes());
    bytes.extend_from_slice(text);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ssh-keygen -t ecdsa -b 521` made, whose number has 65 bytes; for this test alone.
    const SHORT: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAArAAAABNlY2RzYS
1zaGEyLW5pc3RwNTIxAAAACG5pc3RwNTIxAAAAhQQA6i/APtdGH3U4UCWgjdzYtnXy3rcS
6CtEhCAPi2dR9lH0yWXKGor27l9FZhXwMW4eNqwrk7UAeUzWnc17QlZws/0A5PVxPMOUH+
w0xvKzameHnYZMkl17rutR/Ve0njSj8ThnSanD0VFyKcPFoIFwqUJKck9I132b3laOV8Vw
Hh68caEAAAEI863d5fOt3eUAAAATZWNkc2Etc2hhMi1uaXN0cDUyMQAAAAhuaXN0cDUyMQ
AAAIUEAOovwD7XRh91OFAloI3c2LZ18t63EugrRIQgD4tnUfZR9MllyhqK9u5fRWYV8DFu
HjasK5O1AHlM1p3Ne0JWcLP9AOT1cTzDlB/sNMbys2pnh52GTJJde67rUf1XtJ40o/E4Z0
mpw9FRcinDxaCBcKlCSnJPSNd9m95WjlfFcB4evHGhAAAAQWzZvpaWeTgd7p66lWyaGaF3
LNNRXKU7P8CnBzG5PMJNK6f/DOOmoL5Ow3ua2ChvavBxl8YpSkb3KzH01gl2HL/wAAAABX
Nob3J0AQIDBAUG
-----END OPENSSH PRIVATE KEY-----
";
    /// The same behind a passphrase.
    const LOCKED: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABBVxHN4cq
UeaaV+9rji3xvwAAAAEAAAAAEAAACsAAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlz
dHA1MjEAAACFBADqL8A+10YfdThQJaCN3Ni2dfLetxLoK0SEIA+LZ1H2UfTJZcoaivbuX0
VmFfAxbh42rCuTtQB5TNadzXtCVnCz/QDk9XE8w5Qf7DTG8rNqZ4edhkySXXuu61H9V7Se
NKPxOGdJqcPRUXIpw8WggXCpQkpyT0jXfZveVo5XxXAeHrxxoQAAARBpLHwAvx3hStUXSS
bjP2DJqVReEGGEbaWoOre+iCWFb5mPw+AR55G910NW3c185BPIYrl07F3xLSK9mpJBsUyM
Jzpc+NrJ53js6xt22/q9tDPATXydERhjZvvU62vzubQu0P3ffdLR2o7LNPEGqFlqVjt/wc
YvT5akUBYc03enn0pnuaaXbGkmBexSEo6BGywEklWCEay9KEcBGoe5DStTbBrGh/DN3sqV
LeZ/EYC9dxmp9M4RhJv6PmpB8/BeExHuym0i9iMgmedYiTU649BFRF7GFj8E7ats7dFnV+
k1aeR1hzHa0pSdc2fBw/Nw2CyIcUVGSgl+ZGLsNUHLU+8LJQ3vqGkEol9CSdlldX6VYg==
-----END OPENSSH PRIVATE KEY-----
";
    /// What `ssh-keygen -l` says of it.
    const SHOWN: &str = "SHA256:lUL5d/o2vSbh8i4rTC811chCu4O5bCFMNgfCOqdE7Yg";

    /// Signs with the key, so that its number has to be that of its public half.
    fn assert_signs(key: &PrivateKey) {
        assert_eq!(key.fingerprint(ssh_key::HashAlg::Sha256).to_string(), SHOWN);
        assert_eq!(key.comment(), "short");
        let signature = key.sign("test", ssh_key::HashAlg::Sha512, b"text").unwrap();
        key.public_key()
            .verify("test", b"text", &signature)
            .unwrap();
    }

    #[test]
    fn a_number_that_begins_with_a_zero_byte_is_read() {
        assert!(
            PrivateKey::from_openssh(SHORT).is_err(),
            "the library reads it"
        );
        assert_signs(&parse(SHORT).unwrap());
        let locked = parse(LOCKED).unwrap();
        assert_signs(&decrypt(&locked, "typed").unwrap());
        assert!(decrypt(&locked, "other").is_err());
    }

    #[test]
    fn what_is_no_key_is_none() {
        assert!(parse("").is_err());
        assert!(parse("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END").is_err());
        let lines: Vec<&str> = SHORT.lines().collect();
        for left_out in 1..lines.len() - 1 {
            let mut damaged = lines.clone();
            damaged.remove(left_out);
            assert!(parse(&damaged.join("\n")).is_err(), "{left_out}");
        }
    }
}
