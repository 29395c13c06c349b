//! Draws an unpacked tree as lines that a case can state. Called by the scenarios.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::tar::MODIFIED;

/// Times beyond this one are drawn alike.
const LAST: i64 = 4_000_000_000;

/// Returns one line for each name below `root`, sorted, names and contents escaped:
///
/// * `d/` a directory, `f=content` a file, `s->target` a symbolic link, `h==f` a further name of the file that
///   came first by name;
/// * behind it ` MODE` where that is none of 0755 and 0644, and ` @SECONDS` where the time is not the usual one: `LAST` for
///   those from the year 2096 on, since file systems end at different ones, and
///   ` [NAME=VALUE …]` where it has extended attributes.
///
/// # Panics
/// When something in it cannot be read.
pub fn picture(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let root = File::open(root).unwrap_or_else(|error| panic!("`{}`: {error}", root.display()));
    draw(&root, "", &mut lines, &mut HashMap::new());
    lines.sort();
    lines
}

/// One directory a call, each beneath the one before: whole paths may be longer than the kernel takes.
fn draw(directory: &File, prefix: &str, lines: &mut Vec<String>, seen: &mut HashMap<u64, String>) {
    let here = std::path::PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let mut names: Vec<_> = std::fs::read_dir(&here)
        .unwrap_or_else(|error| panic!("`{prefix}`: {error}"))
        .map(|entry| entry.expect("the directory can be read").file_name())
        .collect();
    names.sort();
    for name in names {
        let path = here.join(&name);
        let shown = format!("{prefix}{}", name.as_bytes().escape_ascii());
        let metadata =
            std::fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("`{shown}`: {error}"));
        let mut line = if metadata.is_dir() {
            let opened = File::open(&path).unwrap_or_else(|error| panic!("`{shown}`: {error}"));
            draw(&opened, &format!("{shown}/"), lines, seen);
            format!("{shown}/")
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(&path).expect("a symbolic link has a target");
            format!("{shown}->{}", target.as_os_str().as_bytes().escape_ascii())
        } else if let Some(first) = seen.get(&metadata.ino()) {
            lines.push(format!("{shown}=={first}"));
            continue;
        } else {
            seen.insert(metadata.ino(), shown.clone());
            let content = std::fs::read(&path).unwrap_or_else(|error| panic!("`{shown}`: {error}"));
            format!("{shown}={}", content.escape_ascii())
        };
        let mode = metadata.mode() & 0o7777;
        if !metadata.is_symlink() && !matches!(mode, 0o755 | 0o644) {
            line.push_str(&format!(" {mode:o}"));
        }
        let (seconds, fraction) = (metadata.mtime(), metadata.mtime_nsec());
        if u64::try_from(seconds) != Ok(MODIFIED) || fraction != 0 {
            if seconds > LAST {
                line.push_str(" @LAST");
            } else {
                line.push_str(&format!(" @{seconds}"));
            }
            if fraction != 0 && seconds <= LAST {
                line.push_str(&format!(".{fraction:09}"));
            }
        }
        if !metadata.is_symlink() {
            line.push_str(&attributes(&path));
        }
        lines.push(line);
    }
}

/// The extended attributes, but for those that some kernels give to every file.
fn attributes(path: &Path) -> String {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::listxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return String::new(),
        Err(error) => panic!("`{}`: {error}", path.display()),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || name == b"security.selinux" || name.starts_with(b"system.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::getxattr(path, name, &mut value[..]).expect("it was listed");
        found.push(format!(
            "{}={}",
            name.escape_ascii(),
            value[..length].escape_ascii()
        ));
    }
    found.sort();
    match found.is_empty() {
        true => String::new(),
        false => format!(" [{}]", found.join(" ")),
    }
}
