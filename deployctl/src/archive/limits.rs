//! How much an archive may ask for. The planner and the readers stop at these numbers.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The most that unpacking accepts; the defaults are far above honest archives and far below
/// what would hurt a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Entries over all layers, and directories that only the names of entries tell of: bounds
    /// the memory of the plan, which is at most 300 bytes for each beside its name.
    pub entries: u64,
    /// Names in the path of an entry: those of the directories above it, and its own.
    pub depth: u64,
    /// Uncompressed bytes over all layers.
    pub bytes: u64,
    /// Uncompressed bytes for one compressed byte of a layer, beyond the first
    /// [`Limits::ratio_floor`] bytes: gzip reaches 1030 only for zeros.
    pub ratio: u64,
    /// Uncompressed bytes that a layer may have whatever its ratio.
    pub ratio_floor: u64,
    /// Bytes of a name or link target: the kernel's PATH_MAX.
    pub name_bytes: u64,
    /// Bytes between two slashes: NAME_MAX of the usual file systems.
    pub component_bytes: u64,
    /// Bytes of one PAX or GNU extension header, held in memory.
    pub extension_bytes: u64,
    /// Bytes of names and values of one entry's extended attributes, as far as they are taken
    /// over: what the kernel takes for one (XATTR_SIZE_MAX).
    pub attribute_bytes: u64,
}

impl Limits {
    /// Returns limits that let everything pass but what the planner itself cannot hold: for layers
    /// that have been unpacked already.
    pub fn none() -> Self {
        Self {
            entries: u64::MAX,
            depth: u64::MAX,
            bytes: u64::MAX,
            ratio: u64::MAX,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            depth: 256,
            bytes: 512 * GIB,
            ratio: 512,
            ratio_floor: 256 * MIB,
            name_bytes: 4 * KIB,
            component_bytes: 255,
            extension_bytes: MIB,
            attribute_bytes: 64 * KIB,
        }
    }
}
