//! The third wall of unpacking: threads that change nothing but what is below one directory,
//! whatever they were made to try (Landlock, Linux 5.19). `unpack` and `repair` work behind it.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};

use super::TakeOver;

/// What this was written for; of a kernel that knows less, as much as it knows is used.
const KNOWN: ABI = ABI::V6;

/// What threads can reach, beside the files that are open.
pub(super) struct Walls<'a> {
    /// Below it names can be made, moved and removed, and files can be read.
    pub(super) root: BorrowedFd<'a>,
    /// Directories below the root: in these files can also be written. Nowhere else, since a file
    /// with names in two trees must not be opened for that by the one or the other.
    pub(super) writable: Vec<BorrowedFd<'a>>,
    /// Below it files can be read.
    pub(super) readable: Option<BorrowedFd<'a>>,
    /// Whether these can have further names below the root, where they can still be read only.
    pub(super) take_over: TakeOver,
}

/// Confines the calling thread, and those that it starts from now on: there is no way back.
/// Returns whether the kernel does it; where it cannot, nothing changes.
pub(super) fn confine(walls: &Walls<'_>) -> bool {
    match try_confine(walls) {
        Ok(RulesetStatus::NotEnforced) => false,
        Ok(_) => true,
        Err(error) => {
            tracing::debug!("unpacking without a Landlock sandbox: {error}");
            false
        }
    }
}

fn try_confine(walls: &Walls<'_>) -> Result<RulesetStatus, RulesetError> {
    let never: BitFlags<AccessFs> = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeFifo
        | AccessFs::MakeSock
        | AccessFs::IoctlDev;
    let all = AccessFs::from_all(KNOWN) & !never;
    // The kernel lets no name come where more can be done with it than where it was.
    let write = AccessFs::WriteFile | AccessFs::Truncate;
    let mut read = AccessFs::ReadFile | AccessFs::ReadDir;
    if walls.take_over == TakeOver::Link {
        read |= AccessFs::Refer;
    }
    let rule = |directory, access| Ok::<_, RulesetError>(PathBeneath::new(directory, access));
    let status = Ruleset::default()
        // The first version allows no rename from one directory into another.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .create()?
        .add_rule(PathBeneath::new(walls.root, all & !write))?
        .add_rules(walls.writable.iter().map(|writable| rule(*writable, all)))?
        .add_rules(walls.readable.map(|readable| rule(readable, read)))?
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
        for take_over in [TakeOver::Clone, TakeOver::Link] {
            let place = tempfile::tempdir().unwrap();
            let [inside, outside, beside] =
                ["inside", "outside", "beside"].map(|name| place.path().join(name));
            let written = inside.join("written");
            for directory in [&inside, &outside, &beside, &written] {
                fs::create_dir(directory).unwrap();
                fs::write(directory.join("file"), "content").unwrap();
            }
            let open = |path| File::open(path).unwrap();
            let [root, writable, readable] = [&inside, &written, &beside].map(open);
            let work = || {
                let walls = Walls {
                    root: root.as_fd(),
                    writable: vec![writable.as_fd()],
                    readable: Some(readable.as_fd()),
                    take_over,
                };
                if !confine(&walls) {
                    return;
                }
                // Those that are started later are confined as well.
                let later = || {
                    assert_eq!(fs::read(beside.join("file")).unwrap(), b"content");
                    fs::write(written.join("new"), "content").unwrap();
                    fs::create_dir(inside.join("directory")).unwrap();
                    fs::rename(written.join("new"), inside.join("directory/moved")).unwrap();
                    fs::rename(inside.join("directory/moved"), inside.join("again")).unwrap();
                    for refused in [
                        fs::write(inside.join("new"), "content"),
                        fs::write(inside.join("again"), "content"),
                        fs::rename(inside.join("again"), written.join("moved")),
                        fs::hard_link(beside.join("file"), written.join("linked")),
                        fs::write(beside.join("new"), "content"),
                        fs::write(beside.join("file"), "content"),
                        fs::remove_file(beside.join("file")),
                        fs::rename(inside.join("file"), beside.join("moved")),
                        fs::rename(beside.join("file"), inside.join("moved")),
                        fs::hard_link(inside.join("file"), beside.join("linked")),
                        fs::write(outside.join("new"), "content"),
                        fs::write(outside.join("file"), "content"),
                        fs::remove_file(outside.join("file")),
                        fs::rename(inside.join("file"), outside.join("moved")),
                        fs::hard_link(outside.join("file"), inside.join("linked")),
                        fs::read(outside.join("file")).map(drop),
                    ] {
                        refused.unwrap_err();
                    }
                    let linked = fs::hard_link(beside.join("file"), inside.join("linked"));
                    assert_eq!(linked.is_ok(), take_over == TakeOver::Link);
                    fs::write(inside.join("linked"), "changed").unwrap_err();
                };
                thread::scope(|scope| scope.spawn(later).join().unwrap());
            };
            thread::scope(|scope| scope.spawn(work).join().unwrap());
            assert_eq!(fs::read(beside.join("file")).unwrap(), b"content");
            // Whoever started them is not.
            fs::write(outside.join("new"), "content").unwrap();
        }
    }
}
