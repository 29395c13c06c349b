//! Referrers: the manifests whose subject a manifest is.

use deploy_spec::{Descriptor, Digest, listing::Referrers};
use http::Method;

use super::{ClientError, Repository, error::innermost};

impl Repository {
    /// Returns descriptors of the manifests that refer to this one, all pages of them, filtered
    /// by artifact type where one is given.
    ///
    /// Where the registry has no referrers endpoint, `oci-client` reads the fallback tag of the
    /// specification ("Referrers tag schema").
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let operation = format!("list the referrers of `{subject}` in `{}`", self.name);
        let mut url = self.url(&format!("referrers/{subject}"));
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut()
                .append_pair("artifactType", artifact_type);
        }
        let call = self.reading(&operation, Method::GET, url);
        let pages: Option<Vec<Referrers>> = self.transport.pages(call).await?;
        let mut descriptors = match pages {
            Some(pages) => pages.into_iter().flat_map(|page| page.manifests).collect(),
            None => self.fallback_referrers(subject, &operation).await?,
        };
        // Registries need not filter (no `OCI-Filters-Applied`); the fallback never does.
        if let Some(wanted) = artifact_type {
            descriptors.retain(|found| found.artifact_type.as_deref() == Some(wanted));
        }
        Ok(descriptors)
    }

    async fn fallback_referrers(
        &self,
        subject: &Digest,
        operation: &str,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let auth = &self.transport.auth;
        auth.lend_credentials().await;
        let reference = auth.reference(&self.name, Some(&subject.to_string()));
        let index = auth
            .client
            .pull_referrers(&reference, None)
            .await
            .map_err(|error| self.transport.interrupted(operation, innermost(&error)))?;
        let protocol = |error: serde_json::Error| ClientError::Protocol {
            operation: operation.to_owned(),
            reason: error.to_string(),
        };
        let manifests = serde_json::to_value(index.manifests).map_err(protocol)?;
        serde_json::from_value(manifests).map_err(protocol)
    }
}
