//! Names that remove instead of adding (OCI image-spec, layer.md, "Whiteouts"). `tree`
//! obeys them; whoever reads content asks only whether a name is one.

use super::{Rule, path::SafePath, reader::EntryKind};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// aufs' own files, which were never meant for a layer.
const AUFS: &[u8] = b".wh..wh.";

/// What a name means beyond itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whiteout<'a> {
    /// Nothing: an ordinary entry.
    None,
    /// Lower layers' entry of this name, beside the whiteout, is removed.
    Name(&'a [u8]),
    /// Everything that lower layers have in the directory around it is removed.
    Opaque,
    /// A file of the storage driver that made the layer: passed over.
    Ignored,
}

/// Whether an entry of this name has a whiteout in it somewhere: then nothing is unpacked.
pub(super) fn is_whiteout(name: &[u8]) -> bool {
    let mut components = name.split(|byte| *byte == b'/');
    components.any(|component| component.starts_with(PREFIX))
}

impl<'a> Whiteout<'a> {
    /// Returns what the entry at `path` means.
    ///
    /// `.wh.`, `.wh..` and `.wh...` are refused: they would remove nothing, the directory
    /// itself, and the one above.
    pub(super) fn of(path: &'a SafePath, kind: &EntryKind) -> Result<Self, Rule> {
        let mut found = Self::None;
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            let Some(name) = component.strip_prefix(PREFIX) else {
                continue;
            };
            let last = components.peek().is_none();
            if component == OPAQUE && last {
                found = Self::Opaque;
            } else if component != OPAQUE && component.starts_with(AUFS) {
                return Ok(Self::Ignored);
            } else if last && !matches!(name, b"" | b"." | b"..") {
                found = Self::Name(name);
            } else {
                return Err(Rule::BadWhiteout);
            }
        }
        match (&found, kind) {
            (Self::None, _) | (_, EntryKind::File { .. } | EntryKind::HardLink { .. }) => Ok(found),
            _ => Err(Rule::BadWhiteout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Limits;

    #[test]
    fn whiteouts_are_told_by_name() {
        let table: [(&[u8], Result<Whiteout<'_>, Rule>); 10] = [
            (b"a/b", Ok(Whiteout::None)),
            (b"a/.whole", Ok(Whiteout::None)),
            (b"a/.wh.b", Ok(Whiteout::Name(b"b"))),
            (b"a/.wh..b", Ok(Whiteout::Name(b".b"))),
            (b"a/.wh..wh..opq", Ok(Whiteout::Opaque)),
            (b".wh..wh.plnk/1.2", Ok(Whiteout::Ignored)),
            (b"a/.wh.", Err(Rule::BadWhiteout)),
            (b"a/.wh..", Err(Rule::BadWhiteout)),
            (b"a/.wh...", Err(Rule::BadWhiteout)),
            (b".wh.a/b", Err(Rule::BadWhiteout)),
        ];
        for (name, expected) in table {
            let path = SafePath::parse(name, &Limits::default()).unwrap();
            assert_eq!(
                Whiteout::of(&path, &EntryKind::File { size: 0 }),
                expected,
                "{name:?}"
            );
        }
        let path = SafePath::parse(b".wh.a", &Limits::default()).unwrap();
        assert_eq!(
            Whiteout::of(&path, &EntryKind::Directory),
            Err(Rule::BadWhiteout)
        );
    }
}
