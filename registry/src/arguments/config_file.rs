//! The file that `--config` names: what may change while the registry serves, a line each. It is
//! read at the start and at each SIGHUP.
//!
//! ```text
//! # A line is a flag without its dashes.
//! rate-limit = 100:500
//! max-concurrent-uploads = 64
//! log = info,deploy_registry=debug
//! ```

use clap::Parser;

use super::LimitFlags;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
pub(crate) struct ConfigFile {
    #[command(flatten)]
    pub(crate) limits: LimitFlags,

    /// How much the log says, in place of `RUST_LOG`.
    #[arg(long)]
    pub(crate) log: Option<String>,
}

/// A file that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct ConfigFileError {
    line: usize,
    reason: String,
}

impl ConfigFile {
    /// Returns what the text says.
    ///
    /// # Errors
    /// Names the first line that says nothing, what is not known, or what was said before.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigFileError> {
        let mut said = Vec::new();
        let mut parsed = Self::default();
        for (index, line) in text.lines().enumerate() {
            let failed = |reason| ConfigFileError {
                line: index + 1,
                reason,
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                return Err(failed("it must be `name = value`".to_owned()));
            };
            said.push(format!("--{}={}", name.trim(), value.trim()));
            // With all before it, so that what is said twice is found.
            parsed = Self::try_parse_from(&said).map_err(|error| failed(first_line(&error)))?;
        }
        Ok(parsed)
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use deploy_registry::Limits;

    #[test]
    fn lines_are_flags_without_dashes() {
        let text = "# limits\n\n rate-limit = 0\nmax-manifest-size=5MiB\nlog = debug\n";
        let file = ConfigFile::parse(text).unwrap();
        assert_eq!(file.log.as_deref(), Some("debug"));
        let limits = LimitFlags::default().limits(&file.limits);
        assert_eq!(limits.manifest_size, 5 * 1024 * 1024);
        assert_eq!(limits.rate, None);
        let empty = ConfigFile::parse("").unwrap();
        let limits = LimitFlags::default().limits(&empty.limits);
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        for (text, line) in [
            ("rate-limit", 1),
            ("log = a\nlog = b", 2),
            ("\n\nrate-limit = x", 3),
            ("addr = localhost:1", 1),
            (" = x", 1),
        ] {
            let error = ConfigFile::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
        }
    }
}
