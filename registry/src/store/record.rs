//! The form of every small object: one line of JSON that says what it is, then the bytes that
//! it carries, if any. Readable with `head -1`, and the bytes stay exactly as received.

use bytes::Bytes;
use object_store::{PutPayload, path::Path};
use serde::{Serialize, de::DeserializeOwned};

use super::error::StoreError;

/// Returns the object with this header and body.
pub(crate) fn encode<H: Serialize>(
    header: &H,
    body: impl IntoIterator<Item = Bytes>,
) -> PutPayload {
    let mut line = serde_json::to_vec(header).expect("headers are plain structures");
    line.push(b'\n');
    std::iter::once(Bytes::from(line)).chain(body).collect()
}

/// Returns header and body of the object at `key`.
///
/// # Errors
/// [`StoreError::Damaged`] where it was not made by [`encode`] with such a header.
pub(crate) fn decode<H: DeserializeOwned>(
    key: &Path,
    object: &Bytes,
) -> Result<(H, Bytes), StoreError> {
    let damaged = |reason: String| StoreError::Damaged {
        key: key.to_string(),
        reason,
    };
    let end = object
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or_else(|| damaged("it has no header line".to_owned()))?;
    let header =
        serde_json::from_slice(&object[..end]).map_err(|error| damaged(error.to_string()))?;
    Ok((header, object.slice(end + 1..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decode_is_the_inverse_of_encode(header: Vec<String>, body: Vec<u8>) {
            let object = Bytes::from(encode(&header, [Bytes::from(body.clone())]));
            let (read, rest) = decode::<Vec<String>>(&Path::from("k"), &object).unwrap();
            prop_assert_eq!(read, header);
            prop_assert_eq!(rest, body);
        }

        #[test]
        fn decoding_never_panics(object: Vec<u8>) {
            let _ = decode::<Vec<String>>(&Path::from("k"), &object.into());
        }
    }
}
