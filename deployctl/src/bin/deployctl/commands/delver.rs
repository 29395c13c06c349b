//! `deployctl delver -name NAME -version VERSION`

use anyhow::Result;
use deploy_spec::LayerReference;
use deployctl::ops::Project;

use crate::arguments::Delver;

pub(super) async fn run(project: &Project, verb: &Delver) -> Result<()> {
    let reference = LayerReference {
        component: verb.name.clone(),
        version: verb.version.clone(),
    };
    Ok(project.delete_version(&reference).await?)
}
