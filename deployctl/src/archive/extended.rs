//! Extended attributes: which of an archive's are taken over, and setting them. Safe unless told
//! otherwise, which is none.

use std::{collections::BTreeMap, fmt, os::fd::AsFd, str::FromStr};

use rustix::{
    fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr},
    io::Errno,
};

use super::{ArchiveError, LimitKind, error::escape};

/// The most bytes that a name can have (XATTR_NAME_MAX).
const NAME_BYTES: usize = 255;
/// What hands out rights, or steers the file system itself: never an archive's to say.
/// The last two are how overlay file systems mark what is removed.
const NEVER: [&str; 4] = [
    "security.selinux",
    "system.*",
    "trusted.overlay.*",
    "user.overlay.*",
];

/// Labels that a security module gives every file by itself.
const LABELS: [&[u8]; 2] = [b"security.selinux", b"security.SMACK64"];

/// Extended attributes that may be taken over from an archive: a name, or the beginning of names
/// with a `*` behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributePattern(String);

/// Why some text is no [`AttributePattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` {reason}")]
pub struct AttributePatternError {
    pattern: String,
    reason: &'static str,
}

impl FromStr for AttributePattern {
    type Err = AttributePatternError;

    /// Takes `user.NAME`, `trusted.NAME` and `security.NAME`, and `user.*`, `user.NAME.*` and the
    /// like except for `security`: what gives rights has to be named.
    ///
    /// # Errors
    /// For everything else, and for what is never taken over: `security.selinux`, `system.*`,
    /// `trusted.overlay.*`, `user.overlay.*`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |reason| {
            Err(AttributePatternError {
                pattern: text.to_owned(),
                reason,
            })
        };
        let beginning = text.strip_suffix('*');
        let name = beginning.unwrap_or(text);
        let Some((namespace, rest)) = name.split_once('.') else {
            return wrong("is no name of an extended attribute, such as `user.origin`");
        };
        if is_never(name.as_bytes()) || NEVER.contains(&text) {
            return wrong("is never taken over from an archive");
        }
        if !matches!(namespace, "user" | "trusted" | "security") {
            return wrong("begins with none of `user.`, `trusted.` and `security.`");
        }
        if rest.contains(['*', '\0']) || name.len() > NAME_BYTES {
            return wrong("is no name of an extended attribute; `*` can stand at the end only");
        }
        match beginning {
            Some(_) if namespace == "security" => {
                wrong("stands for attributes that give rights, which have to be named one by one")
            }
            Some(beginning) if !beginning.ends_with('.') => {
                wrong("has its `*` within a name; it stands for all that follows a dot")
            }
            None if rest.is_empty() => wrong("ends without a name"),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for AttributePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AttributePattern {
    /// Returns patterns of all that is not barred: of rights too, for whoever gives none, but
    /// hands on what an archive says.
    pub(super) fn all() -> [Self; 3] {
        ["user.*", "trusted.*", "security.*"].map(|pattern| Self(pattern.to_owned()))
    }

    fn matches(&self, name: &[u8]) -> bool {
        matches(&self.0, name) && !is_never(name)
    }
}

fn matches(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.len() > beginning.len() && name.starts_with(beginning.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

/// Whether it is not taken over whatever is allowed.
fn is_never(name: &[u8]) -> bool {
    NEVER.iter().any(|pattern| matches(pattern, name))
}

/// The attributes that an entry gets; mostly none.
pub(super) type Extended = Option<Box<ExtendedAttributes>>;

/// Attributes, and for messages the entry that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtendedAttributes {
    entry: Box<[u8]>,
    attributes: Box<[Attribute]>,
}

/// A name and its value.
pub(super) type Attribute = (Box<[u8]>, Box<[u8]>);

impl ExtendedAttributes {
    /// Returns those of `found` that are allowed, within `maximum` bytes, and whether all are. Of
    /// a name given twice the last value holds; an empty one takes back what stood before it.
    pub(super) fn allowed(
        entry: &[u8],
        found: Vec<Attribute>,
        allowed: &[AttributePattern],
        maximum: u64,
    ) -> Result<(Extended, bool), ArchiveError> {
        let is_allowed =
            |name: &[u8]| name.len() <= NAME_BYTES && allowed.iter().any(|one| one.matches(name));
        let mut attributes = BTreeMap::new();
        let mut are_all = true;
        for (name, value) in found {
            if !is_allowed(&name) {
                are_all = false;
            } else if value.is_empty() {
                attributes.remove(&name);
            } else {
                attributes.insert(name, value);
            }
        }
        if attributes.is_empty() {
            return Ok((None, are_all));
        }
        let attributes: Vec<_> = attributes.into_iter().collect();
        let all = Self {
            entry: entry.into(),
            attributes: attributes.into(),
        };
        if all.bytes() > maximum {
            return Err(ArchiveError::Limit {
                entry: escape(entry),
                limit: LimitKind::AttributeBytes,
                maximum,
            });
        }
        Ok((Some(Box::new(all)), are_all))
    }

    /// Returns how many bytes the names and values have.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = |(name, value): &Attribute| (name.len() + value.len()) as u64;
        self.attributes.iter().map(bytes).sum()
    }

    /// Returns names and values, sorted by name.
    pub(super) fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Returns the name of the first that `file` does not have with its value.
    pub(super) fn missing_of(&self, file: impl AsFd) -> Result<Option<&[u8]>, Errno> {
        for (name, value) in &self.attributes {
            // One byte more shows that there are too many.
            let mut found = vec![0; value.len() + 1];
            match fgetxattr(&file, &**name, &mut found[..]) {
                Ok(count) if found[..count] == **value => {}
                Ok(_) | Err(Errno::RANGE | Errno::NODATA | Errno::OPNOTSUPP) => {
                    return Ok(Some(name));
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    /// Sets them on a file or directory that this process has just made.
    pub(super) fn set(&self, file: impl AsFd) -> Result<(), ArchiveError> {
        for (name, value) in &self.attributes {
            let set = fsetxattr(&file, &**name, value, XattrFlags::empty());
            set.map_err(|errno: Errno| ArchiveError::Attribute {
                name: escape(name),
                entry: escape(&self.entry),
                source: errno.into(),
            })?;
        }
        Ok(())
    }
}

/// Whether `file` has these attributes and no other ones, but for labels that it has by itself.
pub(super) fn has_only(file: impl AsFd, extended: &Extended) -> Result<bool, Errno> {
    let expected = extended.as_ref().map_or(&[][..], |all| all.attributes());
    let known = LABELS
        .into_iter()
        .chain(expected.iter().map(|(name, _)| &**name));
    // A longer list has another one in it.
    let mut list = vec![0; known.clone().map(|name| name.len() + 1).sum()];
    let count = match flistxattr(&file, &mut list[..]) {
        Ok(count) => count,
        Err(Errno::RANGE) => return Ok(false),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(extended.is_none()),
        Err(errno) => return Err(errno),
    };
    let names = list[..count].split(|byte| *byte == 0);
    let mut names = names.filter(|name| !name.is_empty());
    if !names.all(|found| known.clone().any(|name| name == found)) {
        return Ok(false);
    }
    match extended {
        Some(extended) => Ok(extended.missing_of(&file)?.is_none()),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_or_beginnings_of_them() {
        for good in [
            "user.*",
            "user.mime_type",
            "user.app.*",
            "trusted.*",
            "trusted.md5",
            "security.capability",
            "security.ima",
        ] {
            assert_eq!(good.parse::<AttributePattern>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "*",
            "user",
            "user.",
            "user*",
            "user.a*",
            "user.*.a",
            "other.name",
            "security.*",
            "security.selinux",
            "system.*",
            "system.posix_acl_access",
            "trusted.overlay.*",
            "trusted.overlay.opaque",
            "user.overlay.*",
            "user.overlay.whiteout",
        ] {
            let error = bad.parse::<AttributePattern>().unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("`{bad}` ")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_never_taken_over_is_not_by_a_wide_pattern_either() {
        let patterns: Vec<AttributePattern> = ["user.*", "trusted.*", "security.capability"]
            .map(|pattern| pattern.parse().unwrap())
            .into();
        let taken = |name: &[u8]| {
            let found = vec![(name.into(), b"value"[..].into())];
            let allowed =
                |patterns: &[_]| ExtendedAttributes::allowed(b"a", found.clone(), patterns, 100);
            assert_eq!(allowed(&[]).unwrap(), (None, false));
            allowed(&patterns).unwrap().1
        };
        for (name, expected) in [
            (&b"user.a"[..], true),
            (b"user.\xff", true),
            (b"trusted.a", true),
            (b"security.capability", true),
            (b"security.ima", false),
            (b"security.selinux", false),
            (b"system.posix_acl_access", false),
            (b"trusted.overlay.opaque", false),
            (b"user.overlay.opaque", false),
            (b"user.", false),
            (b"users.a", false),
            (b"", false),
        ] {
            assert_eq!(taken(name), expected, "{name:?}");
        }
    }
}
