//! Writes archives header by header, whatever these say: no tar program could be brought to. Called by the
//! cases beside it, and by scenarios that need one more.

/// The unit of an archive.
const BLOCK: usize = 512;
/// The time of every entry that is not about times.
pub(super) const MODIFIED: u64 = 1_500_000_000;

/// An archive under construction.
#[derive(Debug, Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// An archive without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header block as `change` leaves it, with a checksum that is right, and content with what fills its
    /// last block. The names have to fit into the header, which is 100 bytes each.
    #[must_use]
    pub fn entry(
        self,
        flag: u8,
        name: impl AsRef<[u8]>,
        link: impl AsRef<[u8]>,
        content: impl AsRef<[u8]>,
        change: impl FnOnce(&mut [u8; BLOCK]),
    ) -> Self {
        let (name, link, content) = (name.as_ref(), link.as_ref(), content.as_ref());
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name);
        octal(
            &mut block[100..108],
            if flag == b'5' { 0o755 } else { 0o644 },
        );
        octal(
            &mut block[108..116],
            rustix::process::geteuid().as_raw().into(),
        );
        octal(
            &mut block[116..124],
            rustix::process::getegid().as_raw().into(),
        );
        octal(&mut block[124..136], content.len() as u64);
        octal(&mut block[136..148], MODIFIED);
        block[156] = flag;
        block[157..157 + link.len()].copy_from_slice(link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        change(&mut block);
        seal(&mut block);
        self.block(&block).content(content)
    }

    /// Adds a block as it is.
    #[must_use]
    pub fn block(mut self, block: &[u8; BLOCK]) -> Self {
        self.0.extend_from_slice(block);
        self
    }

    /// Adds bytes and what fills their last block.
    #[must_use]
    pub fn content(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// Adds a file with mode 0644.
    #[must_use]
    pub fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.entry(b'0', name, "", content, |_| {})
    }

    /// Adds a directory with mode 0755.
    #[must_use]
    pub fn directory(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(b'5', name, "", "", |_| {})
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symbolic_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(b'2', name, target, "", |_| {})
    }

    /// Adds a hard link.
    #[must_use]
    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(b'1', name, target, "", |_| {})
    }

    /// Adds a PAX header for the entry to come.
    #[must_use]
    pub fn pax(self, records: &[(&str, &str)]) -> Self {
        let records = records
            .iter()
            .map(|(key, value)| (key.as_bytes(), value.as_bytes()));
        self.pax_bytes(&pax_records(records))
    }

    /// Adds a PAX header with this content, which need not be records.
    #[must_use]
    pub fn pax_bytes(self, content: &[u8]) -> Self {
        self.entry(b'x', "PaxHeader", "", content, |_| {})
    }

    /// Adds a PAX header for all entries to come.
    #[must_use]
    pub fn pax_global(self, records: &[(&str, &str)]) -> Self {
        let records = records
            .iter()
            .map(|(key, value)| (key.as_bytes(), value.as_bytes()));
        self.entry(b'g', "PaxGlobal", "", pax_records(records), |_| {})
    }

    /// Adds the name of the entry to come as GNU programs write long ones.
    #[must_use]
    pub fn gnu_name(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(
            b'L',
            "././@LongLink",
            "",
            [name.as_ref(), b"\0"].concat(),
            |_| {},
        )
    }

    /// Adds the link target of the entry to come as GNU programs write long ones.
    #[must_use]
    pub fn gnu_link(self, target: impl AsRef<[u8]>) -> Self {
        self.entry(
            b'K',
            "././@LongLink",
            "",
            [target.as_ref(), b"\0"].concat(),
            |_| {},
        )
    }

    /// The bytes so far, without the blocks of zeros at the end.
    pub fn unfinished(self) -> Vec<u8> {
        self.0
    }

    /// The bytes with the two blocks of zeros at the end.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

/// Writes a number as octal digits with a NUL behind them.
pub(super) fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
    field[digits] = 0;
}

/// Writes a number as GNU programs write those that are too large for octal digits.
pub(super) fn base_256(field: &mut [u8], value: i128) {
    let bytes = value.to_be_bytes();
    let length = field.len();
    field.copy_from_slice(&bytes[bytes.len() - length..]);
    field[0] |= 0x80;
}

/// Makes the checksum of a header block the right one.
pub(super) fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The content of a PAX header: `<length> <key>=<value>\n`, whose length counts its own digits.
pub fn pax_records<'a>(records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        bytes.extend_from_slice(format!("{length} ").as_bytes());
        bytes.extend_from_slice(key);
        bytes.push(b'=');
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}
