//! The catalog: which repositories there are. One key a repository, entered with its first
//! manifest, gone with its last.

use deploy_spec::RepositoryName;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Page, Store, error::StoreError, keys, take_page};

impl Store {
    /// Returns up to `limit` repositories in bytewise order, from behind `last`.
    pub async fn repositories(
        &self,
        last: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Page<RepositoryName>, StoreError> {
        let after = last.map(keys::catalog);
        let listing = self
            .objects()
            .list(&keys::catalog_entries(), after.as_ref());
        let names = listing.try_filter_map(|key| async move { Ok(keys::repository_of(&key)) });
        take_page(names, limit).await
    }

    /// Returns whether the repository is in the catalog.
    pub(super) async fn is_repository(
        &self,
        repository: &RepositoryName,
    ) -> Result<bool, StoreError> {
        self.has_marker(&keys::catalog(repository)).await
    }

    /// Enters the repository. Call it when its manifest is written.
    pub(super) async fn enter_repository(
        &self,
        repository: &RepositoryName,
    ) -> Result<(), StoreError> {
        self.set_marker(&keys::catalog(repository)).await
    }

    /// Removes the repository where it has no manifests. Call it when one is removed.
    ///
    /// A manifest that comes at the same time is entered by its writer before we remove the
    /// key, or by us: whoever is last sees it.
    pub(super) async fn leave_repository(
        &self,
        repository: &RepositoryName,
    ) -> Result<(), StoreError> {
        if !self.has_manifests(repository).await? {
            self.objects().remove(&keys::catalog(repository)).await?;
            if self.has_manifests(repository).await? {
                self.enter_repository(repository).await?;
            }
        }
        Ok(())
    }

    async fn has_manifests(&self, repository: &RepositoryName) -> Result<bool, StoreError> {
        let mut listing = self.objects().list(&keys::manifests(repository), None);
        Ok(listing.next().await.transpose()?.is_some())
    }
}
