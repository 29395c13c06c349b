//! `deployctl addver -name NAME -version VERSION -file FILE|-hash HASH`

use anyhow::Result;
use deploy_spec::LayerReference;
use deployctl::ops::{Project, Source};

use crate::{
    arguments::Addver,
    printer::{Printer, UsageError},
    progress::Bar,
};

pub(super) async fn run(project: &Project, verb: &Addver, printer: &Printer) -> Result<()> {
    let source = match (&verb.source.file, &verb.source.hash) {
        (Some(file), None) => Source::File(file.clone()),
        (None, Some(hash)) => Source::Hash(hash.clone()),
        _ => return Err(UsageError("give either -file or -hash").into()),
    };
    let reference = LayerReference {
        component: verb.name.clone(),
        version: verb.version.clone(),
    };
    let length = match &source {
        Source::File(path) => std::fs::metadata(path).ok().map(|metadata| metadata.len()),
        Source::Hash(_) => None,
    };
    let bar = Bar::new(&reference.to_string(), length);
    let revision = verb.revision.as_deref();
    let added = project
        .add_version(&reference, &source, revision, &bar.progress())
        .await?;
    drop(bar);
    super::added(printer, &added)
}
