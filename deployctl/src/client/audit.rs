//! The log of who did what, as `deploy-registry` keeps it and others do not.

use deploy_spec::{
    RepositoryName,
    audit::{Entry, PATH, Page},
};
use http::{Method, StatusCode};
use jiff::Timestamp;

use super::{ClientError, Registry, auth::Scope, listings::PAGE_MAX, transport::Call};

/// Which lines are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuestion {
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Not after this one.
    pub until: Option<Timestamp>,
    /// Of this repository alone.
    pub repository: Option<RepositoryName>,
}

/// Lines that come page after page, oldest first.
#[derive(Debug)]
pub struct AuditPages<'a> {
    registry: &'a Registry,
    /// What is asked next.
    call: Option<Call>,
    is_first: bool,
}

impl Registry {
    /// Returns the lines that are asked for; asks for nothing yet.
    pub fn audit(&self, question: &AuditQuestion) -> AuditPages<'_> {
        let mut url = self.transport.url(PATH.trim_start_matches('/'));
        let since = question.since.map(|time| time.to_string());
        let until = question.until.map(|time| time.to_string());
        let repository = question.repository.as_ref().map(ToString::to_string);
        let parameters = [
            ("since", since),
            ("until", until),
            ("repository", repository),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        let scope = Scope::registry();
        let operation = "read the audit log".to_owned();
        AuditPages {
            registry: self,
            call: Some(Call::new(operation, scope, Method::GET, url)),
            is_first: true,
        }
    }
}

impl AuditPages<'_> {
    /// Returns some more lines, perhaps none of them on this page; nothing behind the last page.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] where the registry keeps no such log.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>, ClientError> {
        let Some(call) = self.call.take() else {
            return Ok(None);
        };
        let transport = &self.registry.transport;
        let response = transport.send(call.clone()).await?;
        let is_first = std::mem::take(&mut self.is_first);
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED if is_first => {
                return Err(ClientError::Unsupported {
                    operation: call.operation,
                    reason: "it has no log of who did what: `deploy-registry` has".to_owned(),
                });
            }
            _ => return Err(transport.refusal(&call.operation, response).await),
        }
        let (page, _, next): (Page, _, _) = transport.page(&call, response, PAGE_MAX).await?;
        self.call = next.map(|url| Call { url, ..call });
        Ok(Some(page.entries))
    }
}
