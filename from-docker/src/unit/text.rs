//! A unit as text, quoted as systemd reads it (systemd.syntax(7), systemd.exec(5)).

use std::fmt::{self, Write};

use deploy_spec::ConfigurationName;

use super::{UnitError, path};

/// The longest line that systemd reads (LONG_LINE_MAX).
pub(super) const LONGEST_LINE: usize = 1 << 20;

/// Everything that the unit says.
pub(super) struct Service<'a> {
    pub(super) name: &'a ConfigurationName,
    pub(super) root: String,
    pub(super) account: Option<(&'a str, Option<&'a str>)>,
    pub(super) working_directory: String,
    pub(super) executable: String,
    pub(super) arguments: &'a [String],
    pub(super) environment: Vec<(String, String)>,
    pub(super) stop_signal: Option<String>,
    pub(super) volumes: Vec<&'a str>,
}

impl Service<'_> {
    pub(super) fn text(&self) -> Result<String, UnitError> {
        let Self { name, root, .. } = self;
        let mut text = format!(
            "\
# Starts the program of the image that the configuration `{name}` is. Made by `deploy-from-docker unit`.
#
# RootDirectory= is looked up whenever the service starts; one that runs keeps the tree that it started
# with. Let it be a symbolic link that the script of deploy-agent renews, since the agent's own `current`
# leads to the old release as long as the script runs:
#   ln -sfnT \"$NEWROOT\" {root} && systemctl restart {name}.service
",
            root = shell(root),
        );
        self.say_account(&mut text);
        self.say_volumes(&mut text);
        let root = specifiers(root);
        let directory = specifiers(&self.working_directory);
        put(
            &mut text,
            format_args!(
                "
[Unit]
Description=Image of the configuration {name}
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
RootDirectory={root}
MountAPIVFS=yes
PrivateTmp=yes
# As a container engine puts them there; the image's own say nothing of this host.
BindReadOnlyPaths=-/etc/resolv.conf -/etc/hosts
"
            ),
        );
        if let Some((user, group)) = self.account {
            put(&mut text, format_args!("User={user}\n"));
            if let Some(group) = group {
                put(&mut text, format_args!("Group={group}\n"));
            }
        }
        put(&mut text, format_args!("WorkingDirectory={directory}\n"));
        self.put_environment(&mut text)?;
        let mut line = format!("ExecStart={}", quoted(&self.executable, Dollar::Itself));
        for argument in self.arguments {
            line.push(' ');
            line.push_str(&quoted(argument, Dollar::Doubled));
        }
        put_line(&mut text, &line, "Entrypoint and Cmd")?;
        if let Some(signal) = &self.stop_signal {
            put(&mut text, format_args!("KillSignal={signal}\n"));
        }
        text.push_str(
            "\
Restart=on-failure
RestartSec=1s

[Install]
WantedBy=multi-user.target
",
        );
        Ok(text)
    }

    fn say_account(&self, text: &mut String) {
        if let Some((user, group)) = self.account {
            let all = group.map_or_else(|| user.to_owned(), |group| format!("{user}:{group}"));
            put(
                text,
                format_args!(
                    "\
#
# The image's User is `{all}`. systemd looks for it among the accounts of this host, where it has to be,
# with the numbers that the tree's files have.
"
                ),
            );
        }
    }

    fn say_volumes(&self, text: &mut String) {
        if self.volumes.is_empty() {
            return;
        }
        text.push_str(
            "\
#
# The image keeps data in directories that are to outlive a release. Bind each to one of this host, by a
# line in [Service] such as:
",
        );
        for volume in &self.volumes {
            match path(volume) {
                Some(path) => {
                    let (name, path) = (self.name, quoted(&path, Dollar::Itself));
                    put(
                        text,
                        format_args!("#   BindPaths=/var/lib/{name}/VOLUME:{path}\n"),
                    );
                }
                None => put(text, format_args!("#   (`{}`)\n", volume.escape_debug())),
            }
        }
    }

    fn put_environment(&self, text: &mut String) -> Result<(), UnitError> {
        for (name, value) in &self.environment {
            if value.contains('\0') || name.contains('\0') {
                return Err(UnitError::Nul("Env"));
            }
            if is_variable(name, value) {
                let assignment = format!("{name}={value}");
                let line = format!("Environment={}", quoted(&assignment, Dollar::Itself));
                put_line(text, &line, "Env")?;
            } else {
                let name = name.escape_debug();
                let line = format!("# Left out, since systemd sets no such variable: {name}");
                put_line(text, &line, "Env")?;
            }
        }
        Ok(())
    }
}

/// Whether systemd sets it, rather than to ignore it with a line in its log.
fn is_variable(name: &str, value: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = name.bytes().all(is_word)
        && (name.bytes().next()).is_some_and(|first| !first.is_ascii_digit());
    let is_odd = |byte: u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n');
    is_name && !value.bytes().any(is_odd)
}

/// What a `$` is where a text stands.
#[derive(Clone, Copy)]
enum Dollar {
    /// Nothing else.
    Itself,
    /// The beginning of a variable, unless it is doubled.
    Doubled,
}

/// Returns the text as one word (systemd.syntax(7), "Quoting").
fn quoted(text: &str, dollar: Dollar) -> String {
    let mut word = String::with_capacity(text.len() + 2);
    word.push('"');
    for character in text.chars() {
        match character {
            '"' => word.push_str("\\\""),
            '\\' => word.push_str("\\\\"),
            '\n' => word.push_str("\\n"),
            '\t' => word.push_str("\\t"),
            '%' => word.push_str("%%"),
            '$' if matches!(dollar, Dollar::Doubled) => word.push_str("$$"),
            control if control.is_ascii_control() => {
                put(&mut word, format_args!("\\x{:02x}", u32::from(control)));
            }
            other => word.push(other),
        }
    }
    word.push('"');
    word
}

/// Returns the text for settings that take a whole line: only specifiers mean something there.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// Returns the text as one word of a shell.
fn shell(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@,:".contains(&byte);
    match text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn put_line(text: &mut String, line: &str, of: &'static str) -> Result<(), UnitError> {
    if line.len() >= LONGEST_LINE {
        return Err(UnitError::TooLong(of));
    }
    text.push_str(line);
    text.push('\n');
    Ok(())
}

fn put(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("a text takes whatever is written to it");
}
