//! The records of a PAX header, as values (POSIX pax, "Extended Header"). Pure; `reader` has them
//! say what they say about entries.

use super::{Rule, extended::Attribute, header::Timestamp};

/// What stands before the name of an extended attribute.
const EXTENDED: &[u8] = b"SCHILY.xattr.";

/// What a PAX header says about the entry behind it; absent is what it does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct PaxRecords {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) is_sparse: bool,
    /// Extended attributes, as star wrote them and everybody does since; of those given twice the
    /// last holds.
    pub(super) extended: Vec<Attribute>,
}

impl PaxRecords {
    /// Returns the records of a PAX header. Of a key given twice the last one holds; an empty
    /// value takes back what stood before it (POSIX pax, "Extended Header"). Keys that say
    /// nothing about the tree's names, content or times are passed over.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Rule> {
        let mut found = Self::default();
        for record in records(bytes) {
            let (key, value) = record?;
            match key {
                b"path" => found.path = name(value)?,
                b"linkpath" => found.link = name(value)?,
                b"size" => found.size = decimal(value, "size")?,
                b"uid" => found.uid = decimal(value, "owner")?,
                b"gid" => found.gid = decimal(value, "group")?,
                b"mtime" => found.mtime = time(value)?,
                _ if is_sparse(key) => found.is_sparse = true,
                _ => {
                    if let Some(name) = key.strip_prefix(EXTENDED) {
                        found.set_extended(name, value)?;
                    }
                }
            }
        }
        Ok(found)
    }

    fn set_extended(&mut self, name: &[u8], value: &[u8]) -> Result<(), Rule> {
        if name.contains(&0) {
            return Err(Rule::Nul);
        }
        self.extended.push((name.into(), value.into()));
        Ok(())
    }

    /// Checks a global PAX header, which is passed over: readers disagree about its reach, so
    /// one that would change the tree is refused.
    pub(super) fn check_global(bytes: &[u8]) -> Result<(), Rule> {
        for record in records(bytes) {
            let (key, _) = record?;
            if matches!(key, b"path" | b"linkpath" | b"size") || is_sparse(key) {
                return Err(Rule::GlobalRecord(
                    String::from_utf8_lossy(key).into_owned(),
                ));
            }
        }
        Ok(())
    }
}

fn is_sparse(key: &[u8]) -> bool {
    key.starts_with(b"GNU.sparse.") || key == b"SCHILY.realsize"
}

/// Returns the `<length> <key>=<value>\n` records.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Rule>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = split_record(bytes);
        match record {
            Some((record, rest)) => {
                bytes = rest;
                Some(Ok(record))
            }
            None => {
                bytes = &[];
                Some(Err(Rule::BadRecord))
            }
        }
    })
}

type Record<'a> = (&'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    // A length of more digits than this is not within any limit.
    let space = bytes.iter().take(10).position(|byte| *byte == b' ')?;
    let length = std::str::from_utf8(&bytes[..space]).ok()?;
    if !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let length: usize = length.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    if equals == 0 {
        return None;
    }
    Some(((&record[..equals], &record[equals + 1..]), &bytes[length..]))
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, Rule> {
    if value.contains(&0) {
        return Err(Rule::Nul);
    }
    Ok(Some(value.to_vec()).filter(|value| !value.is_empty()))
}

fn decimal(value: &[u8], what: &'static str) -> Result<Option<u64>, Rule> {
    if value.is_empty() {
        return Ok(None);
    }
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(Rule::BadNumber(what));
    }
    let text = std::str::from_utf8(value).expect("digits are text");
    text.parse().map(Some).map_err(|_| Rule::BadNumber(what))
}

/// Returns a PAX time: decimal seconds with a fraction; the fraction counts upwards also of a
/// negative time.
fn time(value: &[u8]) -> Result<Option<Timestamp>, Rule> {
    const BAD: Rule = Rule::BadNumber("time");
    if value.is_empty() {
        return Ok(None);
    }
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    let whole = match decimal(whole, "time") {
        Ok(Some(whole)) => i64::try_from(whole).unwrap_or(i64::MAX),
        Ok(None) => return Err(BAD),
        // More digits than fit: as far in the future, or the past, as a number can say.
        Err(_) if !whole.is_empty() && whole.iter().all(u8::is_ascii_digit) => i64::MAX,
        Err(rule) => return Err(rule),
    };
    let mut nanoseconds = 0;
    for place in 0..9 {
        nanoseconds =
            nanoseconds * 10 + u32::from(fraction.get(place).map_or(0, |digit| digit - b'0'));
    }
    Ok(Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Timestamp {
            seconds: whole,
            nanoseconds,
        },
        (true, 0) => Timestamp {
            seconds: -whole,
            nanoseconds: 0,
        },
        (true, nanoseconds) => Timestamp {
            seconds: (-whole).saturating_sub(1),
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_times_have_fractions_and_signs() {
        let at = |seconds, nanoseconds| {
            Ok(Some(Timestamp {
                seconds,
                nanoseconds,
            }))
        };
        let bad = Err(Rule::BadNumber("time"));
        let table: [(&[u8], _); 9] = [
            (b"12", at(12, 0)),
            (b"12.5", at(12, 500_000_000)),
            (b"12.1234567891", at(12, 123_456_789)),
            (b"-1", at(-1, 0)),
            (b"-1.25", at(-2, 750_000_000)),
            (b"99999999999999999999999", at(i64::MAX, 0)),
            (b"x", bad.clone()),
            (b"1.x", bad.clone()),
            (b".5", bad),
        ];
        for (value, expected) in table {
            assert_eq!(time(value), expected, "{value:?}");
        }
    }

    #[test]
    fn of_a_pax_key_given_twice_the_last_one_holds() {
        let records = PaxRecords::parse(b"9 path=a\n9 path=b\n11 size=77\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"b"[..]));
        assert_eq!(records.size, Some(77));
        let taken_back = PaxRecords::parse(b"9 path=a\n8 path=\n").unwrap();
        assert_eq!(taken_back.path, None);
    }

    #[test]
    fn damaged_pax_records_are_refused() {
        for bytes in [
            &b"8 path=a\n"[..],
            b"99 path=a\n",
            b"0 \n",
            b"path=a\n",
            b"4 a\n",
            b"5 =a\n",
            b"-1 path=a\n",
            b"18446744073709551615 path=a\n",
        ] {
            assert_eq!(
                PaxRecords::parse(bytes).unwrap_err(),
                Rule::BadRecord,
                "{bytes:?}"
            );
        }
        assert_eq!(PaxRecords::parse(b"12 path=a\0b\n").unwrap_err(), Rule::Nul);
    }
}
