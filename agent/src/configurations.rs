//! One command line, and a file where it names one → the flags of every configuration that is
//! followed. Called by `main`.

use std::{collections::BTreeMap, ffi::OsString, fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{CommandFactory, FromArgMatches};
use toml::{Table, Value};

use crate::arguments::Arguments;

/// Returns the flags of each configuration. Several of them are each in a directory of their own,
/// and those of a file always are: one more of them must not move the first one's.
pub(crate) fn expand(arguments: &Arguments) -> Result<Vec<Arguments>> {
    let all = match &arguments.config {
        Some(path) => {
            let read = || {
                let text = fs::read_to_string(path)?;
                of_file(&text, arguments)
            };
            read().with_context(|| format!("cannot use `{}`", path.display()))?
        }
        None if arguments.names.len() == 1 => vec![arguments.clone()],
        None => {
            ensure!(
                arguments.state.is_none(),
                "one -state cannot be that of several configurations\nhint: leave it out, or give each its `state` in a -config"
            );
            let each = |name: &deploy_spec::ConfigurationName| Arguments {
                names: vec![name.clone()],
                dir: arguments.dir.join(name.as_ref()),
                ..arguments.clone()
            };
            arguments.names.iter().map(each).collect()
        }
    };
    let mut states: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
    for arguments in &all {
        let name = arguments.single()?.to_string();
        if let Some(state) = &arguments.state
            && let Some(other) = states.insert(state.clone(), name.clone())
        {
            let state = state.display();
            bail!(
                "`{other}` and `{name}` would both write `{state}`\nhint: give each its own `state`, or none"
            );
        }
        if let Some(other) = taken.insert(arguments.dir.clone(), name.clone()) {
            let directory = arguments.dir.display();
            bail!(
                "`{other}` and `{name}` would both work in `{directory}`\nhint: a directory has one configuration"
            );
        }
    }
    Ok(all)
}

/// Returns what a file says, and the command line for all of it. Every value goes through the
/// parser of its flag.
fn of_file(text: &str, arguments: &Arguments) -> Result<Vec<Arguments>> {
    let mut common: Table = text.parse()?;
    let mut tables = Vec::new();
    for (name, value) in std::mem::take(&mut common) {
        match value {
            Value::Table(table) => tables.push((name, table)),
            value => drop(common.insert(name, value)),
        }
    }
    ensure!(
        !tables.is_empty(),
        "it has no configuration\nhint: each is a table, as `[project1]`"
    );
    tables.sort_by(|(one, _), (other, _)| one.cmp(other));
    let each = |(name, own): (String, Table)| {
        let has_place = own.contains_key("dir");
        let mut table = common.clone();
        table.extend(own);
        let mut line = without_config(&arguments.line);
        line.push(format!("--name={name}").into());
        for (key, value) in table {
            flags(&key, &value, &mut line)?;
        }
        // What stands later counts: a table more than the whole file, both more than the line.
        let command = Arguments::command().args_override_self(true);
        let parsed = command.try_get_matches_from(line);
        let parsed = parsed.and_then(|found| Arguments::from_arg_matches(&found));
        let parsed = parsed.map_err(|error| {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            anyhow::anyhow!("{}", text.split("\n\n").next().unwrap_or_default())
        });
        let parsed = parsed.with_context(|| format!("configuration `{name}`"))?;
        let dir = match has_place {
            true => parsed.dir.clone(),
            false => parsed.dir.join(&name),
        };
        Ok(Arguments {
            dir,
            once: arguments.once,
            ..parsed
        })
    };
    tables.into_iter().map(each).collect()
}

/// Returns the command line without the name of the file.
fn without_config(line: &[OsString]) -> Vec<OsString> {
    let mut left = Vec::new();
    let mut words = line.iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--config") => drop(words.next()),
            Some(text) if text.starts_with("--config=") => {}
            _ => left.push(word.clone()),
        }
    }
    left
}

/// Adds a key and its value as what a person would have typed.
fn flags(key: &str, value: &Value, line: &mut Vec<OsString>) -> Result<()> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Array(values) => {
            return values.iter().try_for_each(|value| flags(key, value, line));
        }
        other => bail!("`{key}` is a {}, which no flag takes", other.type_str()),
    };
    ensure!(
        !matches!(key, "name" | "config" | "v"),
        "`{key}` has no place in the file"
    );
    line.push(format!("--{key}={text}").into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::verbs::{Verb, parse};

    fn typed(line: &[&str]) -> Arguments {
        let line = ["deploy-agent"].iter().chain(line).map(Into::into);
        match parse(deploy_spec::arguments::normalise(line)).unwrap() {
            Verb::Run(arguments) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_has_the_directory_and_several_have_directories_within() {
        let one = expand(&typed(&["-name", "one", "-dir", "/srv", "-state", "/s"])).unwrap();
        assert_eq!(one[0].dir, Path::new("/srv"));
        let two = expand(&typed(&["-name", "one", "-dir", "/srv", "-name", "two"])).unwrap();
        let places: Vec<_> = two
            .iter()
            .map(|one| (one.single().unwrap().as_ref(), &*one.dir))
            .collect();
        let expected = [
            ("one", Path::new("/srv/one")),
            ("two", Path::new("/srv/two")),
        ];
        assert_eq!(places, expected);
        for wrong in [
            &["-name", "one", "-name", "two", "-state", "/s"][..],
            &["-name", "one", "-name", "one"],
        ] {
            assert!(expand(&typed(wrong)).is_err(), "{wrong:?}");
        }
    }

    fn file(text: &str) -> Result<Vec<Arguments>> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        expand(&typed(&[
            "once",
            "-config",
            &path,
            "-dir=/srv",
            "-keep",
            "3",
        ]))
    }

    #[test]
    fn tables_of_a_file_are_flags() {
        let all = file(
            r#"
            addr = "registry.example:5000"
            poll = "10s"
            mirror = ["one.example:1", "two.example:2"]
            [web]
            script = "/etc/web.sh"
            rollback = true
            poll = "1m"
            xattrs = ["user.*"]
            [data]
            dir = "/data"
            channel = "stable"
            max-depth = 7
            keep = 4
            "#,
        );
        let all = all.unwrap();
        let [data, web] = &*all else {
            panic!("{all:?}")
        };
        assert_eq!(
            (data.single().unwrap().as_ref(), &*data.dir),
            ("data", Path::new("/data"))
        );
        assert_eq!(
            (web.single().unwrap().as_ref(), &*web.dir),
            ("web", Path::new("/srv/web"))
        );
        for one in [data, web] {
            assert!(one.once && one.mirrors.len() == 2);
            assert_eq!(one.addr.to_string(), "registry.example:5000");
        }
        assert_eq!((data.poll.as_secs(), web.poll.as_secs()), (10, 60));
        assert_eq!((data.keep(), web.keep()), (Some(4), Some(3)));
        assert!(web.rollback && !data.rollback);
        assert_eq!(data.channel.to_string(), "stable");
    }

    #[test]
    fn what_is_wrong_in_a_file_is_said_with_its_place() {
        for (text, expected) in [
            ("addr = \"x\"\n", "it has no configuration"),
            ("[web]\npoll = \"soon\"\n", "configuration `web`"),
            ("[web]\npol = \"1s\"\n", "--pol"),
            ("[Not a Name]\n", "agent.toml"),
            ("[web]\nscript = 1.5\n", "which no flag takes"),
            ("[web]\nname = \"other\"\n", "no place"),
            (
                "[a]\ndir = \"/x\"\n[b]\ndir = \"/x\"\n",
                "would both work in `/x`",
            ),
            ("[web\n", "agent.toml"),
            ("state = \"/s\"\n[a]\n[b]\n", "would both write `/s`"),
        ] {
            let error = format!("{:#}", file(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = expand(&typed(&["-config", "/not/there.toml"])).unwrap_err();
        assert!(format!("{error:#}").contains("cannot use `/not/there.toml`"));
    }
}
