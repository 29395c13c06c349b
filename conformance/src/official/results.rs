//! Reads the official suite's `results.yaml`. For `official` only.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The summary of a run; statuses are Pass, Skip, Disabled, FAIL, Error and Unknown.
#[derive(Debug, Deserialize)]
pub(super) struct Results {
    config: Config,
    #[serde(default)]
    apis: BTreeMap<String, String>,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// What the suite says it ran against; the rest of its configuration is of no interest.
#[derive(Debug, Deserialize)]
struct Config {
    registry: String,
    version: String,
}

/// Reads the text of a `results.yaml`.
pub(super) fn parse(text: &str) -> Result<Results, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string().replace('\n', " "))
}

impl Results {
    /// Holds that these are the results of a run and not of another one, and not empty.
    pub(super) fn of_run(&self, registry: &str, version: &str) -> Result<(), String> {
        let Config {
            registry: found,
            version: of,
        } = &self.config;
        if found != registry || of != version {
            return Err(format!("results of version {of} at {found}"));
        }
        if self.apis.is_empty() || self.data.is_empty() {
            return Err("results without a status".into());
        }
        Ok(())
    }

    /// Everything that is neither a pass nor left out by the version of the specification.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        self.statuses()
            .filter(|(_, status)| !matches!(*status, "Pass" | "Disabled"))
            .map(|(name, status)| (name.to_owned(), status.to_owned()))
            .collect()
    }

    /// What the version of the specification leaves out.
    pub(super) fn disabled(&self) -> Vec<&str> {
        self.statuses()
            .filter(|(_, status)| *status == "Disabled")
            .map(|(name, _)| name)
            .collect()
    }

    fn statuses(&self) -> impl Iterator<Item = (&str, &str)> {
        self.apis
            .iter()
            .chain(&self.data)
            .map(|(name, status)| (name.as_str(), status.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the suite writes it, shortened.
    const TEXT: &str = r#"config:
  registry: 127.0.0.1:5000
  tls: disabled
  username: ""
  apis:
    blobs:
      atomic: true
  roData:
    tags: []
  resultsDir: out
  version: "1.1"
  commit: unknown
apis:
  Blob anonymous mount: Skip
  Blob chunked: Pass
  Manifest put with tag params: Disabled
data:
  Image: Pass
  Sparse Manifests: FAIL
"#;

    #[test]
    fn statuses_are_read() {
        let results = parse(TEXT).unwrap();
        assert!(results.of_run("127.0.0.1:5000", "1.1").is_ok());
        let problems = results.problems();
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[0], ("Blob anonymous mount".into(), "Skip".into()));
        assert_eq!(problems[1], ("Sparse Manifests".into(), "FAIL".into()));
        assert_eq!(results.disabled(), ["Manifest put with tag params"]);
    }

    #[test]
    fn results_of_another_run_are_refused() {
        let results = parse(TEXT).unwrap();
        assert!(results.of_run("127.0.0.1:5001", "1.1").is_err());
        assert!(results.of_run("127.0.0.1:5000", "dev").is_err());
        let empty = parse("config: {registry: h, version: dev}\napis: {}\ndata: {}\n").unwrap();
        assert!(empty.of_run("h", "dev").is_err());
    }

    #[test]
    fn text_that_is_no_result_is_refused() {
        assert!(parse("").is_err());
        assert!(parse("apis: [").is_err());
        assert!(parse("<html></html>").is_err());
    }
}
