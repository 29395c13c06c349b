//! What becomes of the content of files while their layers are read. `plan` hands it over.

use std::{collections::HashSet, io::Read};

use super::{
    ArchiveError, extended::Extended, incoming::ContentId, reader::TarReader, tree::Attributes,
};

/// A file whose content comes now.
#[derive(Clone, Debug)]
pub(super) struct NewFile {
    pub(super) content: ContentId,
    /// Bytes of the content.
    pub(super) size: u64,
    pub(super) attributes: Attributes,
    pub(super) extended: Extended,
}

/// Takes the content of the files of one layer after the other.
pub(super) trait Contents {
    /// Takes the content of a file: what is left of the present entry of `reader`, which has this
    /// name. Of files that later entries replace as well, since nobody knows yet.
    fn take<R: Read>(
        &mut self,
        name: &[u8],
        file: NewFile,
        reader: &mut TarReader<R>,
    ) -> Result<(), ArchiveError>;

    /// Hands over what is held back; a layer has ended.
    fn flush(&mut self) -> Result<(), ArchiveError>;
}

/// Passes over all content: for whoever only wants to know what would come out.
pub(super) struct PassedOver;

impl Contents for PassedOver {
    fn take<R: Read>(
        &mut self,
        _: &[u8],
        _: NewFile,
        _: &mut TarReader<R>,
    ) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// Hands over the content of some files, and passes over that of the others.
pub(super) struct Chosen<'a, C> {
    /// Which; all without a choice.
    pub(super) wanted: Option<&'a HashSet<ContentId>>,
    pub(super) inner: C,
}

impl<C: Contents> Contents for Chosen<'_, C> {
    fn take<R: Read>(
        &mut self,
        name: &[u8],
        file: NewFile,
        reader: &mut TarReader<R>,
    ) -> Result<(), ArchiveError> {
        match self.wanted {
            Some(wanted) if !wanted.contains(&file.content) => Ok(()),
            _ => self.inner.take(name, file, reader),
        }
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        self.inner.flush()
    }
}
