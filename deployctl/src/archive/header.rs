//! One 512-byte header block, as values (POSIX ustar; GNU extensions). Pure; `reader` puts blocks
//! together.
//!
//! The `tar` crate's accessors are not used here: they drop the high bytes of a binary size,
//! take empty number fields for errors, and know no negative time.

use super::Rule;

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
}
