//! What requests are held to, as flags and as lines of the file that `--config` names.

use std::num::{NonZeroU32, NonZeroUsize};

use clap::Args;
use deploy_registry::{Limits, Rate};

/// The specification asks registries to take as much.
const MANIFEST_SIZE_MIN: usize = 4 * 1024 * 1024;

/// What requests are held to, as far as somebody says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitFlags {
    /// Largest manifest taken, as `8MiB`, which is what holds unless it is set. At least 4 MiB.
    #[arg(long, value_name = "SIZE", value_parser = manifest_size)]
    max_manifest_size: Option<usize>,

    /// Requests at once that bring an upload's bytes. One more waits a second for its turn, and
    /// is then answered with 503 and `Retry-After`. 0, as it is unless set, takes all.
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    max_concurrent_uploads: Option<AtMost<NonZeroUsize>>,

    /// Requests a second that one client (an address, or 64-bit network) may make on average, and
    /// how many at once after a pause, as `100:500`; one number is both. What is too much is
    /// answered with 429 and `Retry-After`. 0, as it is unless set, takes all.
    #[arg(long, value_name = "RATE[:BURST]", value_parser = rate)]
    rate_limit: Option<AtMost<Rate>>,
}

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AtMost<T>(Option<T>);

impl LimitFlags {
    /// Returns what holds: what is said here, else what `file` says, else the default.
    pub(crate) fn limits(&self, file: &Self) -> Limits {
        let defaults = Limits::default();
        let size = self.max_manifest_size.or(file.max_manifest_size);
        let uploads = self.max_concurrent_uploads.or(file.max_concurrent_uploads);
        let rate = self.rate_limit.or(file.rate_limit);
        Limits {
            manifest_size: size.unwrap_or(defaults.manifest_size),
            uploads: uploads.map_or(defaults.uploads, |AtMost(uploads)| uploads),
            rate: rate.map_or(defaults.rate, |AtMost(rate)| rate),
        }
    }
}

fn manifest_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit: usize = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        unit => return Err(format!("`{unit}` is none of `B`, `KiB`, `MiB`")),
    };
    let number: usize = digits
        .parse()
        .map_err(|_| "it must be a number and a unit, as `8MiB`".to_owned())?;
    match number.checked_mul(unit) {
        Some(size) if size >= MANIFEST_SIZE_MIN => Ok(size),
        _ => Err("it must be 4MiB at least, as the specification asks".to_owned()),
    }
}

fn number(text: &str) -> Result<AtMost<NonZeroUsize>, String> {
    match text.parse() {
        Ok(number) => Ok(AtMost(NonZeroUsize::new(number))),
        Err(_) => Err("it must be a number".to_owned()),
    }
}

fn rate(text: &str) -> Result<AtMost<Rate>, String> {
    let number = |text: &str| text.parse::<u32>().map(NonZeroU32::new);
    let (per_second, burst) = text.split_once(':').unwrap_or((text, text));
    match (number(per_second), number(burst)) {
        (Ok(None), _) => Ok(AtMost(None)),
        (Ok(Some(per_second)), Ok(Some(burst))) => Ok(AtMost(Some(Rate { per_second, burst }))),
        _ => Err("it must be a number or two, as `100` or `100:500`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_a_least() {
        const MIB: usize = 1024 * 1024;
        for (text, size) in [
            ("4MiB", 4 * MIB),
            ("4194304", 4 * MIB),
            ("8192 KiB", 8 * MIB),
        ] {
            assert_eq!(manifest_size(text), Ok(size), "{text}");
        }
        for text in ["", "MiB", "-1", "3MiB", "8GB", "99999999999999MiB", "1e9"] {
            assert!(manifest_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_have_bursts() {
        let rated = |per_second, burst| {
            Ok(AtMost(Some(Rate {
                per_second: NonZeroU32::new(per_second).unwrap(),
                burst: NonZeroU32::new(burst).unwrap(),
            })))
        };
        assert_eq!(rate("10"), rated(10, 10));
        assert_eq!(rate("10:50"), rated(10, 50));
        assert_eq!(rate("0"), Ok(AtMost(None)));
        for text in ["", "x", "10:", "10:0", ":5", "-1", "1.5"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_typed_wins_over_what_a_file_says() {
        let typed = LimitFlags {
            max_concurrent_uploads: Some(AtMost(None)),
            ..LimitFlags::default()
        };
        let file = LimitFlags {
            max_manifest_size: Some(5_000_000),
            max_concurrent_uploads: Some(AtMost(NonZeroUsize::new(7))),
            rate_limit: None,
        };
        let limits = typed.limits(&file);
        assert_eq!(limits.manifest_size, 5_000_000);
        assert_eq!(limits.uploads, None);
        assert_eq!(limits.rate, None);
        let none = LimitFlags::default();
        assert_eq!(none.limits(&none), Limits::default());
        assert_eq!(none.limits(&file).uploads, NonZeroUsize::new(7));
    }
}
