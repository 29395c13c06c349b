//! `deployctl delconf -name NAME -force`

use anyhow::Result;
use deployctl::ops::{OpsError, Project};

use crate::arguments::Delconf;

pub(super) async fn run(project: &Project, verb: &Delconf) -> Result<()> {
    if !verb.force {
        return Err(OpsError::ForceNeeded(verb.name.clone()).into());
    }
    project.delete_configuration(&verb.name).await?;
    Ok(())
}
