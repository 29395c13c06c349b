//! One 512-byte header block and the records of a PAX header, as values (POSIX pax, ustar;
//! GNU extensions). Pure; `reader` puts blocks together.
//!
//! The `tar` crate's accessors are not used here: they drop the high bytes of a binary size,
//! take empty number fields for errors, and know no negative time.

use super::{Rule, extended::Attribute};

/// What stands before the name of an extended attribute.
const EXTENDED: &[u8] = b"SCHILY.xattr.";

/// The unit of a tar archive.
pub(super) const BLOCK: usize = 512;

/// What an entry is, as its type flag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    PaxLocal,
    PaxGlobal,
    GnuLongName,
    GnuLongLink,
}

/// A time as archives know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timestamp {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// The fields of a header block that matter here, raw.
#[derive(Clone, Debug)]
pub(super) struct RawHeader {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) flag: u8,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    /// Whether blocks of an old GNU sparse map follow.
    pub(super) has_sparse_map: bool,
}

impl RawHeader {
    /// Returns whether the checksum of `block` is its own: the only proof that it is a header.
    pub(super) fn checksum_holds(block: &[u8; BLOCK]) -> bool {
        let Some(expected) = number(&block[148..156]).and_then(|sum| u64::try_from(sum).ok())
        else {
            return false;
        };
        // Some very old writers summed signed bytes.
        let (mut unsigned, mut signed) = (0_u64, 0_i64);
        for (index, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&index) {
                b' '
            } else {
                *byte
            };
            unsigned += u64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        expected == unsigned || i64::try_from(expected) == Ok(signed)
    }

    /// Returns the fields of `block`.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, Rule> {
        let posix = &block[257..263] == b"ustar\0";
        let mut name = text(&block[..100]).to_vec();
        // GNU headers keep times where POSIX ones keep the front of a long name.
        let prefix = text(&block[345..500]);
        if posix && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let field = |range: std::ops::Range<usize>, what| {
            number(&block[range]).ok_or(Rule::BadNumber(what))
        };
        let positive = |range, what| {
            field(range, what)
                .and_then(|value| u64::try_from(value).map_err(|_| Rule::BadNumber(what)))
        };
        let mtime = field(136..148, "time")?;
        Ok(Self {
            name,
            link: text(&block[157..257]).to_vec(),
            flag: block[156],
            mode: u32::try_from(positive(100..108, "mode")? & 0o7777).expect("twelve bits"),
            uid: positive(108..116, "owner")?,
            gid: positive(116..124, "group")?,
            size: positive(124..136, "size")?,
            mtime: Timestamp {
                seconds: i64::try_from(mtime).unwrap_or(if mtime < 0 {
                    i64::MIN
                } else {
                    i64::MAX
                }),
                nanoseconds: 0,
            },
            has_sparse_map: block[156] == b'S' && block[482] != 0,
        })
    }

    /// Returns what the entry is; the rule where that is nothing that can be unpacked.
    pub(super) fn kind(&self) -> Result<Kind, Rule> {
        Ok(match self.flag {
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => return Err(Rule::Special("character device")),
            b'4' => return Err(Rule::Special("block device")),
            b'5' => Kind::Directory,
            b'6' => return Err(Rule::Special("named pipe")),
            b'x' => Kind::PaxLocal,
            b'g' => Kind::PaxGlobal,
            b'L' => Kind::GnuLongName,
            b'K' => Kind::GnuLongLink,
            b'S' => return Err(Rule::Sparse),
            unknown => return Err(Rule::UnknownType(unknown)),
        })
    }
}

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
    /// Extended attributes, as star wrote them and everybody does since.
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
        self.extended.retain(|(known, _)| **known != *name);
        if !value.is_empty() {
            self.extended.push((name.into(), value.into()));
        }
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

/// Returns a field's bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}

/// Returns the number of a field: octal digits between blanks and NULs, nothing for zero, or
/// big-endian two's complement behind a set first bit (GNU).
fn number(field: &[u8]) -> Option<i128> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Bit 6 of the first byte is the sign; a dozen bytes always fit.
        let mut value: i128 = if first & 0x40 != 0 { -1 } else { 0 };
        value = (value << 6) | i128::from(first & 0x3f);
        for byte in &field[1..] {
            value = (value << 8) | i128::from(*byte);
        }
        return Some(value);
    }
    let start = field
        .iter()
        .position(|byte| *byte != b' ')
        .unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits
        .iter()
        .position(|byte| matches!(byte, 0 | b' '))
        .unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    let mut value = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value * 8 + i128::from(digit - b'0');
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        let table: [(&[u8], Option<i128>); 10] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777777", Some(0o77777777777)),
            (b"\0\0\0\0", Some(0)),
            (b"    ", Some(0)),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Some(1 << 32)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", Some(1 << 64)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"+7\0", None),
            (b"12\x0034", None),
        ];
        for (field, expected) in table {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

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
