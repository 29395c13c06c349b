//! What unpacking accepts of archives, as flags. Part of `arguments`.

use clap::{Args, ValueEnum, builder::RangedU64ValueParser};
use deploy_spec::arguments::bytes;
use deployctl::archive::{
    AttributePattern, Limits, Ownership, SpecialBits, TakeOver, UnpackOptions,
};

/// The limits have defaults far above honest archives and far below what would hurt a host.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Unpacking")]
pub(crate) struct Unpacking {
    /// Most entries of all layers together
    #[arg(long, default_value_t = Limits::default().entries, value_parser = up_to(u64::from(u32::MAX)), value_name = "N")]
    max_entries: u64,
    /// Most names in a path: those of the directories above a file, and its own
    #[arg(long, default_value_t = Limits::default().depth, value_parser = up_to(2048), value_name = "N")]
    max_depth: u64,
    /// Most unpacked bytes of all layers together
    #[arg(long, default_value = "512GiB", value_parser = bytes, value_name = "SIZE")]
    max_unpacked: u64,
    /// Most unpacked bytes for one packed byte, behind the first 256 MiB of a layer
    #[arg(long, default_value_t = Limits::default().ratio, value_parser = up_to(u64::MAX), value_name = "N")]
    max_ratio: u64,
    /// Longest name or link target, in bytes
    #[arg(long, default_value_t = Limits::default().name_bytes, value_parser = up_to(4096), value_name = "N")]
    max_name: u64,
    /// Whose the files become [default: archive for root, process for others]
    #[arg(long, value_enum, value_name = "WHO")]
    owner: Option<Owner>,
    /// What becomes of setuid, setgid and sticky bits
    #[arg(long, value_enum, default_value_t = Bits::Strip, value_name = "WHAT")]
    special_bits: Bits,
    /// Extended attributes that are taken over, such as user.*,security.capability [default: none]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    xattrs: Vec<AttributePattern>,
    /// Have files that stay the same be hard links of the running release's, where both were unpacked
    /// with this; no file of the tree can be written to then
    ///
    /// Nothing of them is written, and they take no room. But what root, or a file's owner, writes to
    /// one of them nevertheless is in all trees that have it; verify finds that.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    link: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Owner {
    /// Of the numbers that the archives name
    Archive,
    /// Of the agent's user and group
    Process,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bits {
    /// They are dropped
    Strip,
    /// They are set as the archives have them
    Keep,
}

impl Unpacking {
    /// Returns how layers are unpacked.
    pub(crate) fn options(&self) -> UnpackOptions {
        let mut limits = Limits::default();
        limits.entries = self.max_entries;
        limits.depth = self.max_depth;
        limits.bytes = self.max_unpacked;
        limits.ratio = self.max_ratio;
        limits.name_bytes = self.max_name;
        let ownership = match self.owner {
            Some(Owner::Archive) => Ownership::Archive,
            Some(Owner::Process) => Ownership::Process,
            None => Ownership::of_process(),
        };
        let special_bits = match self.special_bits {
            Bits::Strip => SpecialBits::Strip,
            Bits::Keep => SpecialBits::Keep,
        };
        UnpackOptions {
            limits,
            ownership,
            special_bits,
            extended_attributes: self.xattrs.clone(),
            take_over: match self.link {
                true => TakeOver::Link,
                false => TakeOver::Clone,
            },
            ..UnpackOptions::default()
        }
    }
}

fn up_to(most: u64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=most)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        unpacking: Unpacking,
    }

    fn parse(arguments: &[&str]) -> Result<UnpackOptions, clap::Error> {
        let arguments = ["deploy-agent"].iter().chain(arguments);
        Line::try_parse_from(arguments).map(|line| line.unpacking.options())
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let options = parse(&[]).unwrap();
        let expected = UnpackOptions::default();
        assert_eq!(options.limits, expected.limits);
        assert_eq!(options.ownership, expected.ownership);
        assert_eq!(options.special_bits, SpecialBits::Strip);
        assert_eq!(options.extended_attributes, []);
        assert_eq!(options.take_over, TakeOver::Clone);
    }

    #[test]
    fn limits_are_what_was_typed() {
        let arguments = [
            "--max-entries=5",
            "--max-depth=6",
            "--max-unpacked=7MiB",
            "--max-ratio=8",
            "--max-name=9",
            "--owner=process",
            "--special-bits=keep",
            "--xattrs=user.*,security.capability",
            "--link",
        ];
        let options = parse(&arguments).unwrap();
        let limits = &options.limits;
        assert_eq!(
            (limits.entries, limits.depth, limits.bytes),
            (5, 6, 7 << 20)
        );
        assert_eq!((limits.ratio, limits.name_bytes), (8, 9));
        assert_eq!(options.ownership, Ownership::Process);
        assert_eq!(options.special_bits, SpecialBits::Keep);
        let names = ["user.*", "security.capability"].map(|name| name.parse().unwrap());
        assert_eq!(options.extended_attributes, names);
        assert_eq!(options.take_over, TakeOver::Link);
        assert_eq!(parse(&["--link=false"]).unwrap().take_over, TakeOver::Clone);
        for wrong in [
            "--max-entries=0",
            "--max-name=5000",
            "--max-unpacked=1MB",
            "--xattrs=security.*",
            "--xattrs=user.a,security.selinux",
            "--xattrs=",
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }
}
