//! The only place that writes to the terminal: results to stdout, failures to stderr.

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use deploy_from_docker::{Imported, Plan};
use deploy_spec::{ReleaseLayer, ReleaseNumber};
use deployctl::{
    client::Uploaded,
    ops::{PlannedLayer, Standing},
    report::Report,
};
use serde::Serialize;

use crate::arguments::Output;

/// Where it stands how the program is used.
const HELP: &str = "see `deploy-from-docker --help`";

/// A command line that cannot mean anything, found after clap was content with it.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) &'static str);

impl std::fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Error for UsageError {}

/// A layer of the release.
#[derive(Serialize)]
struct Layer {
    component: String,
    version: String,
    digest: String,
    size: u64,
    diff_id: Option<String>,
    /// `sent`, `mounted` or `there`; of a dry run `send`, `mount` or `there`.
    content: &'static str,
    /// How many bytes an import that was interrupted had sent.
    #[serde(skip_serializing_if = "is_zero")]
    sent_before: u64,
}

#[derive(Serialize)]
struct Made {
    name: String,
    release: Option<ReleaseNumber>,
    id: String,
    changed: bool,
    /// The key that signed it, where it was to be signed.
    signed: Option<String>,
    layers: Vec<Layer>,
    /// Devices and named pipes that are in the image and not in its only layer.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
    bytes_sent: u64,
}

#[derive(Serialize)]
struct Planned {
    name: String,
    dry_run: bool,
    layers: Vec<Layer>,
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
    bytes_to_send: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Returns a line that says what was left out.
fn left_out(count: u64) -> String {
    match count {
        0 => String::new(),
        count => {
            format!("  left out, since no host takes them: devices and named pipes, {count}\n")
        }
    }
}

impl Layer {
    fn of(layer: &ReleaseLayer, content: &'static str) -> Self {
        Self {
            component: layer.component.to_string(),
            version: layer.version.to_string(),
            digest: layer.digest.to_string(),
            size: layer.size,
            diff_id: layer.diff_id.as_ref().map(ToString::to_string),
            content,
            sent_before: 0,
        }
    }

    fn planned(planned: &PlannedLayer) -> Self {
        let (layer, reference) = (&planned.layer.layer, planned.reference());
        Self {
            component: reference.component.to_string(),
            version: reference.version.to_string(),
            digest: layer.digest.to_string(),
            size: layer.size,
            diff_id: layer.diff_id.as_ref().map(ToString::to_string),
            content: match planned.standing {
                Standing::Version(_) | Standing::Stored => "there",
                Standing::Elsewhere(_) | Standing::Repeated(_) => "mount",
                Standing::Missing => "send",
            },
            sent_before: 0,
        }
    }

    fn line(&self) -> String {
        let what = match self.content {
            "sent" => match self.sent_before {
                0 => format!("sent {} bytes", self.size),
                before => {
                    let rest = self.size.saturating_sub(before);
                    format!("sent {rest} bytes, {before} had been sent before")
                }
            },
            "send" => format!("to send, {} bytes", self.size),
            "mount" => "to mount from elsewhere in the registry".to_owned(),
            "mounted" => "mounted from elsewhere in the registry".to_owned(),
            _ => "there already".to_owned(),
        };
        format!("  {}:{} {what}\n", self.component, self.version)
    }
}

/// Prints what an import did.
pub(crate) fn imported(imported: &Imported, output: Output) -> io::Result<()> {
    let (mut layers, mut bytes_sent) = (Vec::new(), 0);
    for layer in &imported.layers {
        let mut sent_before = 0;
        let content = match layer.uploaded {
            Uploaded::Existed => "there",
            Uploaded::Mounted => "mounted",
            Uploaded::Sent { before } => {
                bytes_sent += layer.layer.size.saturating_sub(before);
                sent_before = before;
                "sent"
            }
        };
        layers.push(Layer {
            sent_before,
            ..Layer::of(&layer.layer, content)
        });
    }
    layers.extend(
        imported
            .on_top
            .iter()
            .map(|layer| Layer::of(layer, "there")),
    );
    let outcome = &imported.outcome;
    let signed = outcome.signed.as_ref();
    let made = Made {
        name: outcome.now.release.configuration.to_string(),
        release: outcome.now.release.number,
        id: outcome.now.id.to_string(),
        changed: outcome.changed,
        signed: signed.map(|signed| signed.fingerprint.to_string()),
        layers,
        left_out: imported.left_out,
        bytes_sent,
    };
    result(&made, output, |made| {
        // The first line is that of `deployctl addconf`.
        let mut text = match made.release {
            Some(number) => format!("{} {number} {}\n", made.name, made.id),
            None => format!("{} {}\n", made.name, made.id),
        };
        if let Some(key) = &made.signed {
            text.push_str(&format!("signed by {key}\n"));
        }
        text.extend(made.layers.iter().map(Layer::line));
        text.push_str(&left_out(made.left_out));
        text.push_str(&match (made.bytes_sent, made.changed) {
            (0, true) => "no layer moved\n".to_owned(),
            (0, false) => "nothing moved, nothing changed\n".to_owned(),
            (bytes, _) => format!("{bytes} bytes sent\n"),
        });
        text
    })
}

/// Prints what an import would do.
pub(crate) fn planned(plan: &Plan, output: Output) -> io::Result<()> {
    let own = plan.layers.iter().map(Layer::planned);
    let on_top = plan.on_top.iter().map(|layer| Layer::of(layer, "there"));
    let planned = Planned {
        name: plan.configuration.to_string(),
        dry_run: true,
        layers: own.chain(on_top).collect(),
        left_out: plan.left_out,
        bytes_to_send: plan.bytes_to_send(),
    };
    result(&planned, output, |planned| {
        let count = planned.layers.len();
        let mut text = format!("{} would be a release of {count} layers\n", planned.name);
        text.extend(planned.layers.iter().map(Layer::line));
        text.push_str(&left_out(planned.left_out));
        text.push_str(&match planned.bytes_to_send {
            0 => "no layer would move\n".to_owned(),
            bytes => format!("{bytes} bytes would be sent\n"),
        });
        text
    })
}

fn result<T: Serialize>(
    result: &T,
    output: Output,
    text: impl FnOnce(&T) -> String,
) -> io::Result<()> {
    match output {
        Output::Text => self::text(&text(result)),
        Output::Json => {
            let mut json = serde_json::to_string_pretty(result)?;
            json.push('\n');
            self::text(&json)
        }
    }
}

/// Prints a result that is a text.
pub(crate) fn text(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match (stdout.write_all(text.as_bytes())).and_then(|()| stdout.flush()) {
        // That nobody reads to the end is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints why the import failed.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    complain(&Report::new(error.as_ref()));
    match error.is::<UsageError>() {
        true => ExitCode::from(2),
        false => ExitCode::FAILURE,
    }
}

/// Prints what clap has to say: help and version to stdout, a wrong command line as one line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if let ErrorKind::DisplayHelp | ErrorKind::DisplayVersion = error.kind() {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let report = match (error.source(), error.get(ContextKind::InvalidArg)) {
        (Some(source), Some(ContextValue::String(argument))) => {
            Report::of_value(argument, source, HELP)
        }
        _ => Report::of_usage(&error.render().to_string(), HELP),
    };
    complain(&report);
    ExitCode::from(2)
}

fn complain(report: &Report) {
    // Where stderr is closed, the exit status has to do.
    drop(
        io::stderr()
            .lock()
            .write_all(format!("deploy-from-docker: {report}\n").as_bytes()),
    );
}
