//! Lists that come in pages: tags of a repository, repositories of a registry.

use deploy_spec::{
    RepositoryName, Tag,
    listing::{Catalog, TagList, parse_next_link},
};
use http::{Method, StatusCode, header::LINK};
use reqwest::Response;
use serde::de::DeserializeOwned;
use url::Url;

use super::{
    ClientError, Registry, Repository,
    auth::Scope,
    transport::{Call, Transport},
};

/// The largest page that is read.
pub(super) const PAGE_MAX: u64 = 64 * 1024 * 1024;

impl Repository {
    /// Returns the tags, sorted bytewise; none for a repository that does not exist. What is no
    /// tag by the grammar is passed over.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tags(&self) -> Result<Vec<Tag>, ClientError> {
        let operation = format!("list the tags of `{}`", self.name);
        let call = self.reading(&operation, Method::GET, self.url("tags/list"));
        let pages: Option<Vec<TagList>> = self.transport.pages(call).await?;
        let texts = pages.into_iter().flatten().flat_map(|page| page.tags);
        let mut tags: Vec<Tag> = texts.filter_map(|text| text.parse().ok()).collect();
        tags.sort();
        tags.dedup();
        Ok(tags)
    }
}

impl Registry {
    /// Returns the repositories, sorted bytewise. A registry may list some that hold nothing.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] where the registry has no catalog, which the specification
    /// does not ask for.
    pub async fn repositories(&self) -> Result<Vec<RepositoryName>, ClientError> {
        let operation = "list the repositories".to_owned();
        let url = self.transport.url("v2/_catalog");
        let call = Call::new(operation.clone(), Scope::registry(), Method::GET, url);
        let pages: Option<Vec<Catalog>> = self.transport.pages(call).await?;
        let Some(pages) = pages else {
            return Err(ClientError::Unsupported {
                operation,
                reason: "it has no catalog".to_owned(),
            });
        };
        let texts = pages.into_iter().flat_map(|page| page.repositories);
        let mut names: Vec<RepositoryName> = texts.filter_map(|text| text.parse().ok()).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

impl Transport {
    /// Returns every page of a list, following `Link`; nothing where the first is not found.
    pub(super) async fn pages<T: DeserializeOwned>(
        &self,
        first: Call,
    ) -> Result<Option<Vec<T>>, ClientError> {
        self.pages_within(first, u64::MAX).await
    }

    /// As [`Transport::pages`], of at most so many bytes in all.
    pub(super) async fn pages_within<T: DeserializeOwned>(
        &self,
        first: Call,
        limit: u64,
    ) -> Result<Option<Vec<T>>, ClientError> {
        let mut left = limit;
        let mut pages = Vec::new();
        let mut call = first;
        loop {
            let operation = call.operation.clone();
            let response = self.send(call.clone()).await?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND if pages.is_empty() => return Ok(None),
                _ => return Err(self.refusal(&operation, response).await),
            }
            let limit = left.min(PAGE_MAX);
            let (page, size, next) = self.page(&call, response, limit).await?;
            left -= size;
            pages.push(page);
            let Some(next) = next else {
                return Ok(Some(pages));
            };
            call.url = next;
        }
    }

    /// Returns the page that an answer of so many bytes at most holds, with its size and where
    /// the next one is.
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        call: &Call,
        response: Response,
        limit: u64,
    ) -> Result<(T, u64, Option<Url>), ClientError> {
        let (operation, headers) = (&call.operation, response.headers().clone());
        let next = headers.get(LINK).and_then(|value| value.to_str().ok());
        let next = next.and_then(parse_next_link).map(str::to_owned);
        let body = self.body(response, operation, limit).await?;
        let page = serde_json::from_slice(&body)
            .map_err(|error| self.unreadable(operation, &headers, error.to_string()))?;
        let next = next.map(|next| self.next_url(call, &next)).transpose()?;
        Ok((page, body.len() as u64, next))
    }

    /// A page must lead on to another one of the same registry, or the list would never end.
    fn next_url(&self, call: &Call, next: &str) -> Result<Url, ClientError> {
        let url = call.url.join(next).ok();
        url.filter(|url| *url != call.url && url.origin() == self.base.origin())
            .ok_or_else(|| ClientError::Protocol {
                operation: call.operation.clone(),
                reason: format!("its next page is `{}`", next.escape_debug()),
            })
    }
}
