//! The systemd unit that starts an image's program from a deployed tree, without Docker. Pure; the
//! `unit` verb prints what it returns.

mod text;

use std::{fmt, path::Path};

use deploy_spec::{ConfigurationName, release::Image};
use serde_json::Value;

use text::Service;

/// Where Docker looks for a program when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The signals that systemd knows by name, without `SIG`.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The highest number of a signal.
const LAST_SIGNAL: u32 = 64;
/// The signals from RTMIN on.
const REAL_TIME_SIGNALS: u32 = 30;

/// What the image does not say.
#[derive(Clone, Copy, Default)]
pub struct UnitOptions<'a> {
    /// Whether the tree has a program at an absolute path, links within it followed. Only a program
    /// that the image names without a directory is looked for; without this it is refused.
    pub has_program: Option<&'a dyn Fn(&Path) -> bool>,
}

impl fmt::Debug for UnitOptions<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UnitOptions")
            .field("has_program", &self.has_program.is_some())
            .finish()
    }
}

/// Why no unit can start the image's program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// The image is for another operating system.
    #[error("the image is for `{0}`, and systemd starts programs of linux")]
    OtherSystem(String),
    /// There is no entry point and no command.
    #[error(
        "the image says no program to start: it has neither Entrypoint nor Cmd\nhint: it may be one to build upon; write the unit by hand"
    )]
    NoProgram,
    /// A property is of another type than the image specification has.
    #[error("the image's {0} is not what it has to be")]
    Malformed(&'static str),
    /// Some text has a NUL byte in it, which no process can be given.
    #[error("the image's {0} has a NUL byte in it")]
    Nul(&'static str),
    /// The program has no directory, and is in none that is searched.
    #[error(
        "the program `{program}` is in none of the directories of the image's PATH, `{path}`\nhint: it is looked for in the deployed tree; deploy the image first, or give the image an absolute path"
    )]
    Unfound {
        /// As the image names it.
        program: String,
        /// Where it was looked for, or would have been.
        path: String,
    },
    /// The program's name has something in it that systemd does not leave alone there.
    #[error("the program `{0}` has a name that no unit can hold")]
    Program(String),
    /// The user is none that systemd takes.
    #[error("the image's User `{0}` is no account: `user`, `uid`, `user:group` or `uid:gid` is")]
    User(String),
    /// The signal is none that systemd knows.
    #[error("the image's StopSignal `{0}` is no signal")]
    Signal(String),
    /// A path cannot stand in a unit.
    #[error(
        "the {what} `{path}` cannot stand in a unit: it has to be absolute text without control characters, `..`, and blanks at its end"
    )]
    Path {
        /// Which one.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A line is longer than systemd reads.
    #[error("the image's {0} is longer than systemd reads, which is 1 MiB")]
    TooLong(&'static str),
}

/// Returns the text of a unit that starts the program of `image` in the tree at `root`, with what a
/// container engine gives it: user, environment, working directory, `/proc`, `/sys`, `/dev`, the
/// host's name resolution, a `/tmp` of its own. The network is the host's. Equal arguments give equal
/// text.
///
/// `root` is looked up whenever the service starts, and a service that runs keeps the tree that it
/// started with. So it may be a symbolic link, and with `deploy-agent` has to be one that the script
/// renews: the agent's own `current` leads to the old release as long as the script runs. The unit
/// says so in its first lines.
///
/// User and group are those of the host by name or number, as systemd has it, and have to be there.
/// Variables that systemd takes from nobody, by their name or a control character in the value, are
/// left out, and named in a comment.
///
/// # Errors
/// [`UnitError`], which says what cannot be started or written down.
pub fn unit(
    name: &ConfigurationName,
    image: &Image,
    root: &Path,
    options: &UnitOptions<'_>,
) -> Result<String, UnitError> {
    let properties = image.properties();
    match properties.get("os") {
        None | Some(Value::Null) => {}
        Some(Value::String(os)) if os.is_empty() || os == "linux" => {}
        Some(Value::String(os)) => return Err(UnitError::OtherSystem(os.clone())),
        Some(_) => return Err(UnitError::Malformed("os")),
    }
    let empty = serde_json::Map::new();
    let config = match properties.get("config") {
        None | Some(Value::Null) => &empty,
        Some(config) => config.as_object().ok_or(UnitError::Malformed("config"))?,
    };
    let config = Config(config);
    let working_directory = config.working_directory()?;
    let mut program = config.texts("Entrypoint")?;
    program.extend(config.texts("Cmd")?);
    let (first, arguments) = program.split_first().ok_or(UnitError::NoProgram)?;
    let environment = image.environment();
    let executable = executable(first, &working_directory, &environment, options)?;
    let root = path(root.to_str().unwrap_or_default())
        .filter(|root| root != "/")
        .ok_or_else(|| UnitError::Path {
            what: "root",
            path: root.display().to_string(),
        })?;
    let service = Service {
        name,
        root,
        account: config.account()?,
        working_directory,
        executable,
        arguments,
        environment,
        stop_signal: config.stop_signal()?,
        volumes: config.volumes()?,
    };
    service.text()
}

/// The `config` of an image configuration.
struct Config<'a>(&'a serde_json::Map<String, Value>);

impl Config<'_> {
    /// Returns a text; an empty one where it says nothing.
    fn text(&self, property: &'static str) -> Result<&str, UnitError> {
        match self.0.get(property) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) if text.contains('\0') => Err(UnitError::Nul(property)),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(UnitError::Malformed(property)),
        }
    }

    /// Returns a list of texts.
    fn texts(&self, property: &'static str) -> Result<Vec<String>, UnitError> {
        let text = |value: &Value| match value {
            Value::String(text) if text.contains('\0') => Err(UnitError::Nul(property)),
            Value::String(text) => Ok(text.clone()),
            _ => Err(UnitError::Malformed(property)),
        };
        match self.0.get(property) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(texts)) => texts.iter().map(text).collect(),
            // As Docker reads it.
            Some(one) => Ok(vec![text(one)?]),
        }
    }

    fn working_directory(&self) -> Result<String, UnitError> {
        let text = self.text("WorkingDir")?;
        // Engines take a relative one from the root.
        path(&format!("/{text}")).ok_or_else(|| UnitError::Path {
            what: "working directory",
            path: text.to_owned(),
        })
    }

    /// Returns user and group, where the image has them.
    fn account(&self) -> Result<Option<(&str, Option<&str>)>, UnitError> {
        let text = self.text("User")?;
        if text.is_empty() {
            return Ok(None);
        }
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        match is_account(user) && group.is_none_or(is_account) {
            true => Ok(Some((user, group))),
            false => Err(UnitError::User(text.to_owned())),
        }
    }

    /// Returns the signal as systemd writes it, where the image has one.
    fn stop_signal(&self) -> Result<Option<String>, UnitError> {
        let text = self.text("StopSignal")?;
        if text.is_empty() {
            return Ok(None);
        }
        let signal = || {
            let upper = text.to_ascii_uppercase();
            if let Some(number) = number(&upper, 1..=LAST_SIGNAL) {
                return Some(number.to_string());
            }
            let name = upper.strip_prefix("SIG").unwrap_or(&upper);
            let known = match name {
                "RTMIN" | "RTMAX" => true,
                _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
                    (Some(rest), _) | (_, Some(rest)) => {
                        number(rest, 0..=REAL_TIME_SIGNALS).is_some()
                    }
                    _ => SIGNALS.contains(&name),
                },
            };
            known.then(|| format!("SIG{name}"))
        };
        signal()
            .map(Some)
            .ok_or_else(|| UnitError::Signal(text.to_owned()))
    }

    /// Returns the directories that are to outlive the container.
    fn volumes(&self) -> Result<Vec<&str>, UnitError> {
        match self.0.get("Volumes") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(volumes)) => Ok(volumes.keys().map(String::as_str).collect()),
            Some(_) => Err(UnitError::Malformed("Volumes")),
        }
    }
}

/// Returns digits as the number that they are, within the range.
fn number(text: &str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
    let are_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = are_digits.then(|| text.parse().ok()).flatten();
    number.filter(|number| range.contains(number))
}

/// Whether systemd takes it for the name or number of a user or group.
fn is_account(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The highest number means nobody in particular to the system calls.
        return text.parse().is_ok_and(|id: u32| id != u32::MAX);
    }
    let mut bytes = text.bytes();
    let first = bytes.next();
    first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte))
        && text.len() <= 255
}

/// Returns the path as units have it, where they can: what `.` and doubled slashes say is left out,
/// and `..` depends on links that nobody sees here.
fn path(text: &str) -> Option<String> {
    // The end of a line is cut, and a backslash there would join the next one.
    let is_plain =
        text.starts_with('/') && !text.contains(char::is_control) && !text.ends_with([' ', '\\']);
    let names = text.split('/').filter(|name| !matches!(*name, "" | "."));
    let names: Vec<_> = names.collect();
    (is_plain && !names.contains(&"..")).then(|| format!("/{}", names.join("/")))
}

/// Returns the absolute path of the program that is started.
fn executable(
    program: &str,
    working_directory: &str,
    environment: &[(String, String)],
    options: &UnitOptions<'_>,
) -> Result<String, UnitError> {
    let found = if program.starts_with('/') {
        program.to_owned()
    } else if program.contains('/') {
        format!("{working_directory}/{program}")
    } else {
        search(program, working_directory, environment, options)?
    };
    // Of the program alone systemd expands no variables, so that nothing could be escaped there.
    path(&found)
        .filter(|path| !path.contains('$') && !program.ends_with('/') && path != "/")
        .ok_or_else(|| UnitError::Program(program.to_owned()))
}

/// Looks for the program where the image's PATH says.
fn search(
    program: &str,
    working_directory: &str,
    environment: &[(String, String)],
    options: &UnitOptions<'_>,
) -> Result<String, UnitError> {
    let mut set = environment.iter().rev();
    let set = set.find(|(name, _)| name == "PATH");
    let directories = set.map_or(DEFAULT_PATH, |(_, value)| value);
    let unfound = || UnitError::Unfound {
        program: program.to_owned(),
        path: directories.to_owned(),
    };
    if program.is_empty() {
        return Err(UnitError::Program(program.to_owned()));
    }
    let has_program = options.has_program.ok_or_else(unfound)?;
    let candidates = directories.split(':').map(|directory| {
        // An empty one, and relative ones, are taken from the working directory.
        match directory.starts_with('/') {
            true => format!("{directory}/{program}"),
            false => format!("{working_directory}/{directory}/{program}"),
        }
    });
    let mut candidates = candidates.filter_map(|candidate| path(&candidate));
    candidates
        .find(|candidate| has_program(Path::new(candidate)))
        .ok_or_else(unfound)
}

#[cfg(test)]
mod tests;
