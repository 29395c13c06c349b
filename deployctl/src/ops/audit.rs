//! Who did what: the registry's own log.

use std::collections::VecDeque;

use deploy_spec::audit::Entry;

use super::{OpsError, Project};
use crate::client::AuditQuestion;

impl Project {
    /// Returns the lines of the registry's audit log that are asked for, oldest first; with a
    /// number, only the last ones.
    ///
    /// # Errors
    /// [`OpsError::Client`]; with `Unsupported` where the registry keeps no such log.
    pub async fn audit(
        &self,
        question: &AuditQuestion,
        last: Option<usize>,
    ) -> Result<Vec<Entry>, OpsError> {
        let mut lines = VecDeque::new();
        let mut pages = self.registry.audit(question);
        while let Some(page) = pages.next().await? {
            lines.extend(page);
            let surplus = last.map_or(0, |last| lines.len().saturating_sub(last));
            lines.drain(..surplus);
        }
        Ok(lines.into())
    }
}
