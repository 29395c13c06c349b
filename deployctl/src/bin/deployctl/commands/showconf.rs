//! `deployctl showconf -name NAME [-v]`

use anyhow::Result;
use deploy_spec::{Channel, Digest, ReleaseLayer, ReleaseNumber};
use deployctl::ops::{Project, Shown};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    arguments::Showconf,
    printer::Printer,
    table::{columns, properties, time},
};

#[derive(Serialize)]
struct Configuration<'a> {
    name: &'a str,
    release: Option<ReleaseNumber>,
    channel: &'a Channel,
    id: &'a Digest,
    created: Option<Timestamp>,
    parent: Option<&'a Digest>,
    author: Option<&'a str>,
    reason: Option<&'a str>,
    layers: Vec<Layer<'a>>,
    environment: Vec<String>,
}

#[derive(Serialize)]
struct Layer<'a> {
    component: &'a str,
    version: &'a str,
    created: Option<Timestamp>,
    digest: &'a Digest,
    size: u64,
    media_type: &'a str,
    diff_id: Option<&'a Digest>,
    unpacked_size: Option<u64>,
}

pub(super) async fn run(project: &Project, verb: &Showconf, printer: &Printer) -> Result<()> {
    let channel = &verb.channel.channel;
    let shown = project.show_configuration(&verb.name, channel).await?;
    printer.result(&view(&shown, channel), |configuration| {
        let header = match verb.verbose {
            true => header(configuration),
            false => String::new(),
        };
        header + &layers(configuration)
    })?;
    Ok(())
}

fn view<'a>(shown: &'a Shown, channel: &'a Channel) -> Configuration<'a> {
    let release = &shown.release;
    let layer = |layer: &'a ReleaseLayer| Layer {
        component: layer.component.as_str(),
        version: layer.version.as_str(),
        created: layer.created,
        digest: &layer.digest,
        size: layer.size,
        media_type: &layer.media_type,
        diff_id: layer.diff_id.as_ref(),
        unpacked_size: layer.unpacked_size,
    };
    let environment = release.image.environment().into_iter();
    Configuration {
        name: release.configuration.as_str(),
        release: release.number,
        channel,
        id: &shown.id,
        created: release.created,
        parent: release.parent.as_ref(),
        author: release.author.as_deref(),
        reason: release.reason.as_deref(),
        layers: release.layers.iter().map(layer).collect(),
        environment: environment
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
    }
}

fn header(configuration: &Configuration<'_>) -> String {
    let mut pairs = vec![
        ("Name:", configuration.name.to_owned()),
        ("Mtime:", time(configuration.created)),
        ("Hash:", configuration.id.to_string()),
    ];
    if let Some(number) = configuration.release {
        pairs.push(("Release:", number.to_string()));
    }
    properties(&pairs) + "\n"
}

fn layers(configuration: &Configuration<'_>) -> String {
    let row = |layer: &Layer<'_>| {
        vec![
            layer.component.to_owned(),
            layer.version.to_owned(),
            time(layer.created),
        ]
    };
    columns(&configuration.layers.iter().map(row).collect::<Vec<_>>())
}
