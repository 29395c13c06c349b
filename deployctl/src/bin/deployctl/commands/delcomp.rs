//! `deployctl delcomp -name NAME`

use anyhow::Result;
use deployctl::ops::Project;

use crate::arguments::Delcomp;

pub(super) async fn run(project: &Project, verb: &Delcomp) -> Result<()> {
    project.delete_component(&verb.name).await?;
    Ok(())
}
