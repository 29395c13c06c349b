//! The commands and answers shown in the README, read from its text and carried out in one shell. Called by the
//! scenario that proves the README right.
//!
//! A fenced block marked `console` holds commands after `$ `, their further lines after `> `, and below each what
//! it answers. In the answers `…` stands for anything, and a line that is only `…` for any number of lines; a
//! time and a digest stand for any time and any digest, and runs of blanks for one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::Run;

/// One command and the answer shown below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is typed, further lines included.
    pub command: String,
    /// The lines shown as its answer.
    pub answer: Vec<String>,
}

/// A step that was carried out.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The step.
    pub step: Step,
    /// What it really answered, both streams together.
    pub answer: Vec<String>,
    /// Its exit code.
    pub code: i32,
}

impl Outcome {
    /// Says what differs from what is shown, or nothing where it is as shown.
    pub fn complaint(&self) -> Option<String> {
        let shown = self.step.answer.join("\n");
        let got = self.answer.join("\n");
        if !matches(&self.step.answer, &self.answer) {
            return Some(format!(
                "$ {}\n--- shown\n{shown}\n--- answered\n{got}\n",
                self.step.command
            ));
        }
        // A step that is meant to fail shows how; one that shows nothing bad has to succeed.
        let refusals = [
            "deployctl: ",
            "deploy-agent: ",
            "deploy-registry: ",
            "hint: ",
        ];
        let fails = self
            .step
            .answer
            .iter()
            .any(|line| refusals.iter().any(|start| line.starts_with(start)));
        (self.code != 0 && !fails)
            .then(|| format!("$ {}\n{got}\n[exit {}]\n", self.step.command, self.code))
    }
}

/// Returns the steps in all `console` blocks below the heading `section`, up to the next heading that is as high.
pub fn steps(markdown: &str, section: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut level, mut inside, mut fenced) = (0, false, false);
    for line in markdown.lines() {
        if let Some(mark) = line.strip_prefix("```") {
            inside = !fenced && mark.trim() == "console" && level > 0;
            fenced = !fenced;
        } else if !fenced && line.starts_with('#') {
            let depth = line.chars().take_while(|&c| c == '#').count();
            if line[depth..].trim() == section {
                level = depth;
            } else if level > 0 && depth <= level {
                level = 0;
            }
        } else if inside {
            read_line(&mut steps, line);
        }
    }
    steps
}

fn read_line(steps: &mut Vec<Step>, line: &str) {
    if let Some(command) = line.strip_prefix("$ ") {
        steps.push(Step {
            command: command.to_owned(),
            answer: Vec::new(),
        });
        return;
    }
    let Some(step) = steps.last_mut() else { return };
    match line
        .strip_prefix("> ")
        .or_else(|| line.strip_prefix('>').filter(|rest| rest.is_empty()))
    {
        Some(more) if step.answer.is_empty() => {
            step.command.push('\n');
            step.command.push_str(more);
        }
        _ => step.answer.push(line.to_owned()),
    }
}

/// Carries the steps out, one after the other, in one shell at `home`. What is left running is ended with it.
/// After a step that starts `deploy-registry` in the background, the next one waits until `port` answers.
///
/// # Errors
/// When the shell cannot be run, or ends before the last step.
pub fn carry_out(
    steps: &[Step],
    home: &Path,
    path: &std::ffi::OsStr,
    port: u16,
) -> Result<Vec<Outcome>> {
    const MARK: &str = "\u{1}step";
    let mut script = String::from("trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n");
    for step in steps {
        script.push_str(&format!(
            "{{\n{}\n}}\nprintf '\\n{MARK} %s\\n' $?\n",
            step.command
        ));
        if step.command.trim_start().starts_with("deploy-registry")
            && step.command.trim_end().ends_with('&')
        {
            script.push_str(&format!(
                "for _ in $(seq 600); do (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && break; sleep 0.1; done\n"
            ));
        }
    }
    let file = home.join(".walkthrough");
    std::fs::write(&file, script).context("write the walkthrough's script")?;
    let answer = Run::new("/bin/bash")
        .arg("-c")
        .arg(format!("exec 2>&1; . '{}'", file.display()))
        .directory(home)
        .env("HOME", home)
        .env("PATH", path)
        .env("TZ", "UTC")
        .env_remove("DEPLOYCTL_ADDR")
        .env_remove("DEPLOYCTL_FINGERPRINT")
        .limit(Duration::from_secs(300))
        .answer()?;
    let mut outcomes = Vec::new();
    let mut lines = Vec::new();
    for line in answer.stdout.lines() {
        let Some(code) = line.strip_prefix(MARK) else {
            lines.push(line.to_owned());
            continue;
        };
        // The line that closes an answer is ours.
        if lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let step = steps
            .get(outcomes.len())
            .context("the shell did more steps than it was given")?
            .clone();
        let code = code.trim().parse().context("read a step's exit code")?;
        outcomes.push(Outcome {
            step,
            answer: std::mem::take(&mut lines),
            code,
        });
    }
    ensure!(
        outcomes.len() == steps.len(),
        "the shell ended after {} steps\n{answer}",
        outcomes.len()
    );
    Ok(outcomes)
}

/// True when the lines answered are those shown.
pub fn matches(shown: &[String], got: &[String]) -> bool {
    let Some((first, rest)) = shown.split_first() else {
        return got.is_empty();
    };
    if first.trim() == "…" {
        return (0..=got.len()).any(|skip| matches(rest, &got[skip..]));
    }
    let Some((line, more)) = got.split_first() else {
        return false;
    };
    line_matches(&plain(first), &plain(line)) && matches(rest, more)
}

fn line_matches(shown: &str, got: &str) -> bool {
    let Some((before, after)) = shown.split_once('…') else {
        return shown == got;
    };
    let Some(mut rest) = got.strip_prefix(before) else {
        return false;
    };
    loop {
        if line_matches(after, rest) {
            return true;
        }
        let mut characters = rest.chars();
        if characters.next().is_none() {
            return false;
        }
        rest = characters.as_str();
    }
}

/// The line with one blank for each run of them, and with every time and every digest replaced by what any of them
/// becomes. A digest becomes what stands for it where it is left out: `sha256:…`.
fn plain(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let hexadecimal =
            |text: &str| text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digest = core.split(['@', '/', '=']).find_map(|part| {
            part.strip_prefix("sha256:")
                .or_else(|| part.strip_prefix("sha256-"))
        });
        if is_time(core) {
            word.replace(core, "TIME")
        } else if let Some(digest) = digest.filter(|digest| hexadecimal(digest)) {
            word.replace(digest, "…")
        } else if core.len() == 64 && hexadecimal(core) {
            word.replace(core, "…")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn is_time(word: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    word.len() == FORM.len()
        && word.bytes().zip(FORM).all(|(byte, &form)| {
            if form == b'0' {
                byte.is_ascii_digit()
            } else {
                byte == form
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Top\n```console\n$ not this\n```\n## Walk\ntext\n```console\n$ echo a\n$ cat <<E\n> b\n> E\nb\n```\n\
### More\n```sh\n$ nor this\n```\n```console\n$ false\ndeployctl: …\n```\n## Else\n```console\n$ nor that\n```\n";

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn steps_of_a_section_are_read() {
        let steps = steps(TEXT, "Walk");
        let commands: Vec<_> = steps.iter().map(|step| step.command.as_str()).collect();
        assert_eq!(commands, ["echo a", "cat <<E\nb\nE", "false"]);
        assert_eq!(steps[1].answer, ["b"]);
    }

    #[test]
    fn steps_share_one_shell() {
        let home = tempfile::tempdir().unwrap();
        let steps = steps(
            "# W\n```console\n$ A=1\n$ echo $A; printf b\n1\nb\n$ (exit 3)\n```\n",
            "W",
        );
        let outcomes =
            carry_out(&steps, home.path(), &std::env::var_os("PATH").unwrap(), 1).unwrap();
        assert_eq!(outcomes[0].complaint(), None);
        assert_eq!(outcomes[1].complaint(), None);
        assert!(outcomes[2].complaint().unwrap().contains("[exit 3]"));
    }

    #[test]
    fn times_digests_and_dots_match_any() {
        let digest = "a".repeat(64);
        let got = lines(&format!(
            "code   v01   2031-03-01T11:28:18Z\n`sha256:{digest}`\none\ntwo\nend of 3 parts"
        ));
        let shown = lines(&format!(
            "code v01 2017-03-01T11:28:18Z\n`sha256:{}`\n…\nend of … parts",
            "b".repeat(64)
        ));
        assert!(matches(&shown, &got));
        assert!(!matches(
            &lines("end of … pieces"),
            &lines("end of 3 parts")
        ));
        assert!(!matches(&[], &lines("x")));
    }
}
