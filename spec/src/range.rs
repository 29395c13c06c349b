//! Byte ranges: `Range` of a blob download (RFC 9110 §14) and `Content-Range` of an upload's
//! chunk (distribution-spec, "Pushing a blob in chunks"). Pure; used on both sides of HTTP.

use std::{fmt, str::FromStr};

/// What a `Range` header asks of a content of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The whole: no range, or one that a server may ignore (another unit, or malformed).
    Whole,
    /// One part: at least one byte, within the content.
    Part(ByteRange),
    /// Several parts, as asked; servers may answer with the whole (RFC 9110 §14.2).
    Parts(Vec<ByteRange>),
    /// Nothing of it lies within the content: 416.
    Unsatisfiable,
}

/// A range of bytes, first and last both included, as HTTP counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte; never before the first.
    pub last: u64,
}

impl ByteRange {
    /// Returns how many bytes the range holds, at least one.
    pub fn length(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

/// More ranges than this in one header are an attack (RFC 9110 §17.15): the whole is served.
const PARTS_MAX: usize = 64;

/// Returns which bytes of a content of `length` bytes a `Range` header selects.
///
/// Understands `a-b` (the end is clamped), `a-` and `-n`; parts outside the content are
/// dropped. A header in another unit or outside the grammar selects the whole, as RFC 9110
/// §14.2 has it for ranges that a server does not understand.
pub fn select(header: &str, length: u64) -> Selection {
    let Some((unit, set)) = header.split_once('=') else {
        return Selection::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let mut parts = Vec::new();
    for (count, specifier) in set.split(',').enumerate() {
        if count >= PARTS_MAX {
            return Selection::Whole;
        }
        match resolve(specifier.trim(), length) {
            Err(Malformed) => return Selection::Whole,
            Ok(Some(part)) => parts.push(part),
            Ok(None) => {}
        }
    }
    match parts.as_slice() {
        [] => Selection::Unsatisfiable,
        [part] => Selection::Part(*part),
        _ => Selection::Parts(parts),
    }
}

struct Malformed;

fn resolve(specifier: &str, length: u64) -> Result<Option<ByteRange>, Malformed> {
    let (first, last) = specifier.split_once('-').ok_or(Malformed)?;
    if first.is_empty() {
        let suffix = number(last).ok_or(Malformed)?.min(length);
        return Ok((suffix > 0).then(|| ByteRange {
            first: length - suffix,
            last: length - 1,
        }));
    }
    let first = number(first).ok_or(Malformed)?;
    let last = match last {
        "" => u64::MAX,
        last => number(last).ok_or(Malformed)?,
    };
    if last < first {
        return Err(Malformed);
    }
    Ok((first < length).then(|| ByteRange {
        first,
        last: last.min(length - 1),
    }))
}

/// Digits only: `u64::from_str` alone would take a sign. Too large a number is the largest.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// A text that is no `Content-Range` of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no content range: it must read `<first>-<last>`, in bytes", .0.escape_debug())]
pub struct ContentRangeError(String);

/// The `Content-Range` of an upload's chunk: `<first>-<last>`, without a unit, as the
/// distribution specification writes it; the unit that RFC 9110 asks for is accepted too.
impl FromStr for ByteRange {
    type Err = ContentRangeError;

    fn from_str(text: &str) -> Result<Self, ContentRangeError> {
        let error = || ContentRangeError(text.to_owned());
        let bare = text
            .strip_prefix("bytes ")
            .or_else(|| text.strip_prefix("bytes="))
            .unwrap_or(text);
        let bare = bare.split_once('/').map_or(bare, |(range, _)| range);
        let (first, last) = bare.split_once('-').ok_or_else(error)?;
        let (first, last) = number(first).zip(number(last)).ok_or_else(error)?;
        if last < first || last == u64::MAX {
            return Err(error());
        }
        Ok(Self { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(first: u64, last: u64) -> Selection {
        Selection::Part(ByteRange { first, last })
    }

    #[test]
    fn range_headers_select_what_rfc_9110_says() {
        let table = [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-5", part(2, 5)),
            ("bytes=2-", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-30", part(0, 9)),
            ("bytes=8-99", part(8, 9)),
            ("bytes=0-99999999999999999999999", part(0, 9)),
            ("Bytes = 1-2", part(1, 2)),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=5-4", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=1", Selection::Whole),
            ("items=0-1", Selection::Whole),
            ("", Selection::Whole),
            ("bytes=20-30, 1-2", part(1, 2)),
            (
                "bytes=0-0,-1",
                Selection::Parts(vec![
                    ByteRange { first: 0, last: 0 },
                    ByteRange { first: 9, last: 9 },
                ]),
            ),
        ];
        for (header, expected) in table {
            assert_eq!(select(header, 10), expected, "{header}");
        }
        assert_eq!(select("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(
            select(&format!("bytes={}", "0-1,".repeat(99)), 10),
            Selection::Whole
        );
    }

    #[test]
    fn content_ranges_of_chunks() {
        assert_eq!("0-9".parse(), Ok(ByteRange { first: 0, last: 9 }));
        assert_eq!("bytes 5-9/10".parse(), Ok(ByteRange { first: 5, last: 9 }));
        for bad in [
            "",
            "-",
            "0-",
            "-9",
            "9-0",
            "a-b",
            "0-9-3",
            "0--9",
            "+0-9",
            "0-18446744073709551615",
        ] {
            assert!(bad.parse::<ByteRange>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn selections_lie_within_the_content(header in "bytes=[0-9,-]{0,20}", length: u64) {
            let within = |range: &ByteRange| range.first <= range.last && range.last < length;
            match select(&header, length) {
                Selection::Part(range) => prop_assert!(within(&range)),
                Selection::Parts(ranges) => prop_assert!(ranges.iter().all(within)),
                Selection::Whole | Selection::Unsatisfiable => {}
            }
        }

        #[test]
        fn content_range_parse_is_the_inverse_of_display(first: u64, more: u64) {
            let range = ByteRange { first, last: first.saturating_add(more).min(u64::MAX - 1).max(first) };
            prop_assume!(range.last < u64::MAX);
            prop_assert_eq!(range.to_string().parse::<ByteRange>().unwrap(), range);
        }
    }
}
