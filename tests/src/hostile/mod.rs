//! A corpus of archives that try to get out of the tree they are unpacked into, to make readers disagree, or
//! to use a host up: at least one for every rule of safe unpacking, and their combinations. Beside them stand
//! those that look odd and are right. Called by the scenarios, and by the program `hostile`, which writes them
//! to files.

mod attributes;
mod encodings;
mod extensions;
mod kinds;
mod links;
mod names;
mod picture;
mod replacements;
mod surroundings;
mod tar;
mod whiteouts;

pub use picture::picture;
pub use surroundings::Surroundings;
pub use tar::{Tar, pax_records};

/// Archives that make one tree, and what has to become of them.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it tries, in words joined by `-`.
    pub name: &'static str,
    /// The archives, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// Limits other than the usual ones, as the agent's flags without their dashes; `ratio-floor` is none of them.
    pub flags: Vec<(&'static str, &'static str)>,
    /// What has to become of it.
    pub outcome: Outcome,
}

/// What has to become of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is unpacked, and the message has these parts: the entry, the rule.
    Refused(Vec<String>),
    /// What stands there afterwards, as [`picture`] draws it.
    Tree(Vec<String>),
}

impl Case {
    /// The case with this flag.
    #[must_use]
    fn with(mut self, flag: &'static str, value: &'static str) -> Self {
        self.flags.push((flag, value));
        self
    }
}

/// A case of layers that are refused because of `entry`, in words that `rule` is part of.
fn refused(
    name: &'static str,
    layers: impl IntoIterator<Item = Tar>,
    entry: &str,
    rule: &str,
) -> Case {
    Case {
        name,
        layers: layers.into_iter().map(Tar::end).collect(),
        flags: Vec::new(),
        outcome: Outcome::Refused(vec![format!("entry `{entry}`"), rule.to_owned()]),
    }
}

/// A case of layers of which nothing can be read, for the reason that `message` is part of.
fn unreadable(name: &'static str, layer: Vec<u8>, message: &str) -> Case {
    Case {
        name,
        layers: vec![layer],
        flags: Vec::new(),
        outcome: Outcome::Refused(vec![message.to_owned()]),
    }
}

/// A case of layers that make this tree.
fn accepted(name: &'static str, layers: impl IntoIterator<Item = Tar>, tree: &[&str]) -> Case {
    unpacked(name, layers.into_iter().map(Tar::end).collect(), tree)
}

/// The same of archives that are finished.
fn unpacked(name: &'static str, layers: Vec<Vec<u8>>, tree: &[&str]) -> Case {
    let mut tree: Vec<_> = tree.iter().map(|line| (*line).to_owned()).collect();
    tree.sort();
    Case {
        name,
        layers,
        flags: Vec::new(),
        outcome: Outcome::Tree(tree),
    }
}

/// Returns all cases. `outside` is an absolute path that the archives try to reach; it has to be short enough
/// for a header, which is 80 bytes.
pub fn corpus(outside: &str) -> Vec<Case> {
    [
        names::cases(outside),
        links::cases(outside),
        replacements::cases(outside),
        kinds::cases(),
        attributes::cases(),
        extensions::cases(outside),
        whiteouts::cases(outside),
        encodings::cases(outside),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_is_the_same_each_time() {
        let (one, other) = (corpus("/outside"), corpus("/outside"));
        let names: BTreeSet<_> = one.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), one.len());
        for (one, other) in one.iter().zip(&other) {
            assert!(one.layers == other.layers, "{}", one.name);
        }
    }
}
