//! The third wall of unpacking: threads that write nowhere but below one directory, whatever
//! they were made to try (Landlock, Linux 5.19). `unpack` works behind it.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};

/// What this was written for; of a kernel that knows less, as much as it knows is used.
const KNOWN: ABI = ABI::V6;

/// Confines the calling thread, and those that it starts from now on, to what is below `root`
/// and to the files that are open: there is no way back. What is below `readable` can be read.
/// Returns whether the kernel does it; where it cannot, nothing changes.
pub(super) fn confine(root: BorrowedFd<'_>, readable: Option<BorrowedFd<'_>>) -> bool {
    match try_confine(root, readable) {
        Ok(RulesetStatus::NotEnforced) => false,
        Ok(_) => true,
        Err(error) => {
            tracing::debug!("unpacking without a Landlock sandbox: {error}");
            false
        }
    }
}

fn try_confine(
    root: BorrowedFd<'_>,
    readable: Option<BorrowedFd<'_>>,
) -> Result<RulesetStatus, RulesetError> {
    let never: BitFlags<AccessFs> = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeFifo
        | AccessFs::MakeSock
        | AccessFs::IoctlDev;
    let status = Ruleset::default()
        // The first version allows no rename from one directory into another.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .create()?
        .add_rule(PathBeneath::new(root, AccessFs::from_all(KNOWN) & !never))?
        .add_rules(readable.map(|readable| {
            let read = AccessFs::ReadFile | AccessFs::ReadDir;
            Ok::<_, RulesetError>(PathBeneath::new(readable, read))
        }))?
        .restrict_self()?;
    Ok(status.ruleset)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::fd::AsFd,
        thread,
    };

    use super::*;

    #[test]
    fn confined_threads_reach_nothing_outside() {
        let place = tempfile::tempdir().unwrap();
        let [inside, outside, beside] =
            ["inside", "outside", "beside"].map(|name| place.path().join(name));
        for directory in [&inside, &outside, &beside] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("file"), "content").unwrap();
        }
        let root = File::open(&inside).unwrap();
        let readable = File::open(&beside).unwrap();
        let work = || {
            if !confine(root.as_fd(), Some(readable.as_fd())) {
                return;
            }
            // Those that are started later are confined as well.
            let later = || {
                assert_eq!(fs::read(beside.join("file")).unwrap(), b"content");
                fs::write(inside.join("new"), "content").unwrap();
                fs::create_dir(inside.join("directory")).unwrap();
                fs::rename(inside.join("new"), inside.join("directory/moved")).unwrap();
                for refused in [
                    fs::write(beside.join("new"), "content"),
                    fs::write(beside.join("file"), "content"),
                    fs::remove_file(beside.join("file")),
                    fs::rename(inside.join("file"), beside.join("moved")),
                    fs::hard_link(beside.join("file"), inside.join("linked")),
                    fs::write(outside.join("new"), "content"),
                    fs::write(outside.join("file"), "content"),
                    fs::remove_file(outside.join("file")),
                    fs::rename(inside.join("file"), outside.join("moved")),
                    fs::hard_link(outside.join("file"), inside.join("linked")),
                    fs::read(outside.join("file")).map(drop),
                ] {
                    refused.unwrap_err();
                }
            };
            thread::scope(|scope| scope.spawn(later).join().unwrap());
        };
        thread::scope(|scope| scope.spawn(work).join().unwrap());
        // Whoever started them is not.
        fs::write(outside.join("new"), "content").unwrap();
    }
}
