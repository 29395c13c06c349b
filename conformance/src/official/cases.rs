//! Reads the tree of cases that the official suite prints. For `official` only.
//!
//! `results.yaml` tells a skip only where nothing else of its kind passed; the tree tells
//! every one.

/// A leaf of the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// The path from the root, joined by `/`.
    pub(super) name: String,
    /// Pass, Skip, Disabled, FAIL, Error or Unknown.
    pub(super) status: String,
    /// What the suite wrote below it.
    pub(super) reasons: Vec<String>,
}

const STATUSES: [&str; 6] = ["Pass", "Skip", "Disabled", "FAIL", "Error", "Unknown"];

/// The leaves in the order in which they were printed; everything around the tree is left out.
pub(super) fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<(usize, Case)> = Vec::new();
    let mut root: Option<String> = None;
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        if let Some((name, status)) = entry(line.trim()) {
            let top = root.get_or_insert_with(|| name.to_owned());
            // The tables behind the tree have names that do not begin with the root's.
            if !name.starts_with(top.as_str()) {
                continue;
            }
            // An entry that has another one below it is no leaf.
            if cases.last().is_some_and(|(last, _)| *last < depth) {
                cases.pop();
            }
            let case = Case {
                name: name.to_owned(),
                status: status.to_owned(),
                reasons: Vec::new(),
            };
            cases.push((depth, case));
        } else if let (Some(reason), Some((_, case))) =
            (line.trim_start().strip_prefix("- "), cases.last_mut())
        {
            case.reasons.push(reason.to_owned());
        }
    }
    cases.into_iter().map(|(_, case)| case).collect()
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let (name, status) = line.rsplit_once(": ")?;
    (STATUSES.contains(&status) && !name.starts_with("- ")).then_some((name, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Test results
OCI Conformance Test: FAIL
  OCI Conformance Test/ping: Pass
  OCI Conformance Test/sha256 blobs: Pass
    OCI Conformance Test/sha256 blobs/mount anonymous: Skip
      OCI Conformance Test/sha256 blobs/mount anonymous/blob-mount-anonymous: Skip
       - registry returned status 202, fell back to blob POST+PUT
      OCI Conformance Test/sha256 blobs/mount anonymous/blob-head: Pass
  OCI Conformance Test/empty: FAIL
    OCI Conformance Test/empty/referrers: FAIL
     - unexpected status code: 404

Test conformance:
  Pass..........................:        900

API conformance:
  Tag listing...................:       Pass
";

    #[test]
    fn leaves_are_read_with_their_reasons() {
        let cases = parse(TEXT);
        let short: Vec<(&str, &str)> = cases
            .iter()
            .map(|case| (case.name.rsplit('/').next().unwrap(), case.status.as_str()))
            .collect();
        assert_eq!(
            short,
            [
                ("ping", "Pass"),
                ("blob-mount-anonymous", "Skip"),
                ("blob-head", "Pass"),
                ("referrers", "FAIL"),
            ]
        );
        assert!(cases[1].reasons[0].starts_with("registry returned"));
        assert_eq!(cases[3].reasons, ["unexpected status code: 404"]);
    }

    #[test]
    fn other_text_has_no_cases() {
        assert_eq!(parse("failed to load config: no such file\n"), []);
    }
}
