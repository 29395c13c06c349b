//! Names inside an archive that cannot leave it. The planner turns every raw name into one.

use super::{ArchiveError, LimitKind, Limits, Rule};

/// A name relative to the root of the tree: components joined by single slashes, none of them
/// empty, `.` or `..`, no NUL, within the limits. Empty for the root itself.
///
/// Bytes, not text: archives hold whatever the file system they came from held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SafePath(Box<[u8]>);

impl SafePath {
    /// Returns the name that `raw` stands for: `./a//b/` is `a/b`.
    ///
    /// Absolute names and `..` are refused, not repaired: repairing them is where readers
    /// disagree, and an honest archive has none.
    pub(super) fn parse(raw: &[u8], limits: &Limits) -> Result<Self, PathError> {
        if raw.is_empty() {
            return Err(PathError::Rule(Rule::EmptyName));
        }
        if raw.contains(&0) {
            return Err(PathError::Rule(Rule::Nul));
        }
        if raw.len() as u64 > limits.name_bytes {
            return Err(PathError::Limit(LimitKind::NameBytes, limits.name_bytes));
        }
        // The root by its own name, as umoci writes it, leads nowhere.
        if raw[0] == b'/' && raw.iter().any(|byte| *byte != b'/') {
            return Err(PathError::Rule(Rule::Absolute));
        }
        let mut path = Vec::with_capacity(raw.len());
        let mut components = 0;
        for component in raw.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(PathError::Rule(Rule::ParentDirectory)),
                _ => {}
            }
            if component.len() as u64 > limits.component_bytes {
                return Err(PathError::Limit(
                    LimitKind::ComponentBytes,
                    limits.component_bytes,
                ));
            }
            components += 1;
            if components > limits.depth {
                return Err(PathError::Limit(LimitKind::Depth, limits.depth));
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        Ok(Self(path.into()))
    }

    /// Returns the components from the root down.
    pub(super) fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// Returns the components of the directory above, and the last component; nothing for
    /// the root.
    pub(super) fn split(&self) -> Option<(impl Iterator<Item = &[u8]> + Clone, &[u8])> {
        let mut components = self.components();
        let name = components.next_back()?;
        Some((components, name))
    }

    #[cfg(test)]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why a raw name is no [`SafePath`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathError {
    Rule(Rule),
    Limit(LimitKind, u64),
}

impl PathError {
    /// Returns the error about the entry named `entry`.
    pub(super) fn of(self, entry: &[u8]) -> ArchiveError {
        match self {
            Self::Rule(rule) => ArchiveError::refused(entry, rule),
            Self::Limit(limit, maximum) => ArchiveError::Limit {
                entry: super::error::escape(entry),
                limit,
                maximum,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_or_refused() {
        let limits = Limits {
            depth: 4,
            ..Limits::default()
        };
        let long = vec![b'n'; 256];
        let longer = b"a/".repeat(2049);
        type Row<'a> = (&'a [u8], Result<&'a [u8], PathError>);
        let table: [Row<'_>; 16] = [
            (b"a", Ok(b"a")),
            (b"a/b/", Ok(b"a/b")),
            (b"./a//./b", Ok(b"a/b")),
            (b".", Ok(b"")),
            (b"./", Ok(b"")),
            (b"//", Ok(b"")),
            (b"a..b/...", Ok(b"a..b/...")),
            (b"\xff/\n", Ok(b"\xff/\n")),
            (b"", Err(PathError::Rule(Rule::EmptyName))),
            (b"/a", Err(PathError::Rule(Rule::Absolute))),
            (b"a/../b", Err(PathError::Rule(Rule::ParentDirectory))),
            (b"..", Err(PathError::Rule(Rule::ParentDirectory))),
            (b"a\0b", Err(PathError::Rule(Rule::Nul))),
            (&long, Err(PathError::Limit(LimitKind::ComponentBytes, 255))),
            (&longer, Err(PathError::Limit(LimitKind::NameBytes, 4096))),
            (b"a/b/c/d/e", Err(PathError::Limit(LimitKind::Depth, 4))),
        ];
        for (raw, expected) in table {
            let found = SafePath::parse(raw, &limits);
            assert_eq!(
                found.as_ref().map(SafePath::as_bytes),
                expected.as_ref().copied(),
                "{raw:?}"
            );
        }
    }
}
