//! Puts the demo on a terminal or into a pipe; the only place in it that prints. Called by the demo's other files.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the printer"
)]

use std::io::Write;
use std::time::Duration;

/// Prints; with colours on a terminal, without in a pipe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    colour: bool,
}

impl Printer {
    pub(crate) fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// The heading of a part of the story.
    pub(crate) fn heading(&self, text: &str) {
        println!("\n{}", self.paint("1;36", &format!("── {text}")));
    }

    /// A sentence between commands.
    pub(crate) fn say(&self, text: &str) {
        println!("{}", self.paint("2", &format!("# {text}")));
    }

    /// A command, before it is run.
    pub(crate) fn command(&self, line: &str) {
        let mut lines = line.lines();
        println!(
            "{} {}",
            self.paint("32", "$"),
            self.paint("1", lines.next().unwrap_or_default())
        );
        for more in lines {
            println!("{} {}", self.paint("32", ">"), self.paint("1", more));
        }
        std::io::stdout().flush().ok();
    }

    /// What a command answered.
    pub(crate) fn answer(&self, text: &str) {
        for line in text.lines() {
            println!("{}", line.trim_end());
        }
    }

    /// How long a command took.
    pub(crate) fn took(&self, time: Duration) {
        println!("{}", self.paint("2", &format!("  took {}", seconds(time))));
    }

    /// A promise that was kept.
    pub(crate) fn kept(&self, text: &str) {
        println!("{} {text}", self.paint("32", "✓"));
    }

    /// Text as it is.
    pub(crate) fn plain(&self, text: &str) {
        print!("{text}");
    }

    /// What went wrong, on stderr.
    pub(crate) fn complaint(&self, text: &str) {
        eprintln!("{} {text}", self.paint("31", "✗"));
    }

    fn paint(self, style: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A time as a person reads it.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis @ ..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{:.1} s", time.as_secs_f64()),
        _ => format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

/// A size as a person reads it.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    match bytes {
        ..KIB => format!("{bytes} bytes"),
        KIB..MIB => format!("{}.{} KiB", bytes / KIB, bytes % KIB * 10 / KIB),
        _ => format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB),
    }
}
