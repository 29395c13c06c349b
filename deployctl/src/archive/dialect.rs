//! Whose words a layer is in. Asked by `tree` and `ways`.

/// How the entries of a layer are understood. Whatever it is, no name leads out of the tree, and
/// limits hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// As the deploy tools write them. What readers disagree about is refused: an absolute name, a
    /// way through a symbolic link, a hard link to one, a device, a named pipe.
    #[default]
    Own,
    /// As container engines read the layers of images. A name loses the slashes that it begins with.
    /// A symbolic link on the way to an entry is followed within the tree, whose root is its `/` and
    /// has nothing above it. A hard link to a symbolic link is another one like it. Devices and named
    /// pipes are left out and counted, and what a lower layer has in their place goes with them:
    /// engines make those that a container needs by themselves.
    Image,
}

impl Dialect {
    /// Returns the name that is meant by one in an archive.
    pub(super) fn name(self, raw: &[u8]) -> &[u8] {
        let first = raw.iter().position(|byte| *byte != b'/');
        match (self, first) {
            (Self::Image, Some(first)) => &raw[first..],
            _ => raw,
        }
    }
}
