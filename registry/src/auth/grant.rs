//! What somebody may do: a role, narrowed to some repositories and to some time. Pure.

use deploy_spec::{
    Actions, openssh,
    scope::{Resource, Scope},
};
use jiff::Timestamp;

/// How far somebody's rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Pulls.
    Read,
    /// Pulls, pushes and deletes.
    Write,
}

impl Role {
    fn actions(self) -> Actions {
        match self {
            Self::Read => Actions::PULL,
            Self::Write => Actions::ALL,
        }
    }
}

/// Names of repositories: `*` stands for any characters, slashes too, and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Returns the pattern that the text is.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether it stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        openssh::matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// With which rights.
    pub role: Role,
    /// In which repositories; in all of them without any.
    pub repositories: Option<Vec<Pattern>>,
    /// Until when; for ever without it.
    pub expires: Option<Timestamp>,
}

impl Grant {
    /// Returns the rights of the role, everywhere and for ever.
    pub fn of(role: Role) -> Self {
        Self {
            role,
            repositories: None,
            expires: None,
        }
    }

    /// Whether it holds no more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// Returns what may be done of what is asked for. The catalog, and blobs wherever they are, are
    /// for those who may read all repositories, the audit log for those who may write to all.
    pub fn allowed(&self, scope: &Scope) -> Actions {
        match &scope.resource {
            Resource::Repository(name) => {
                let is_in = |patterns: &Vec<Pattern>| {
                    let name = name.to_string();
                    patterns.iter().any(|pattern| pattern.matches(&name))
                };
                match self.repositories.as_ref().is_none_or(is_in) {
                    true => scope.actions.and(self.role.actions()),
                    false => Actions::NONE,
                }
            }
            Resource::Catalog | Resource::Blobs if self.repositories.is_none() => scope.actions,
            // It tells what happened everywhere, and who did it.
            Resource::Audit if self.repositories.is_none() && self.role == Role::Write => {
                scope.actions
            }
            Resource::Catalog | Resource::Blobs | Resource::Audit => Actions::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names() {
        let rows = [
            ("a", "a", true),
            ("a", "ab", false),
            ("configs/*", "configs/project1", true),
            ("configs/*", "configs/a/b", true),
            ("configs/*", "components/a", false),
            ("*/a", "x/y/a", true),
            ("*/a", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("project?", "project1", true),
            ("project?", "project", false),
            ("**", "", true),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, name, expected) in rows {
            let found = Pattern::new(pattern).matches(name);
            assert_eq!(found, expected, "{pattern} {name}");
        }
        // Where each star could begin anywhere.
        let long = "a".repeat(4000);
        assert!(!Pattern::new(&"*a".repeat(1000)).matches(&format!("{long}b")));
    }

    #[test]
    fn grants_are_the_intersection_of_what_is_asked_for_and_what_one_may() {
        let narrow = Grant {
            repositories: Some(vec![Pattern::new("configs/a*")]),
            ..Grant::of(Role::Write)
        };
        let rows = [
            (Grant::of(Role::Read), "repository:a:pull,push", "pull"),
            (Grant::of(Role::Read), "repository:a:push", ""),
            (
                Grant::of(Role::Read),
                "registry:catalog:*",
                "pull,push,delete",
            ),
            (Grant::of(Role::Write), "repository:a:*", "pull,push,delete"),
            (
                narrow.clone(),
                "repository:configs/ab:pull,push",
                "pull,push",
            ),
            (narrow.clone(), "repository:configs/b:pull", ""),
            (narrow.clone(), "registry:catalog:*", ""),
            (narrow.clone(), "registry:blobs:*", ""),
            (
                Grant::of(Role::Read),
                "registry:blobs:*",
                "pull,push,delete",
            ),
            (narrow, "registry:audit:*", ""),
            (Grant::of(Role::Read), "registry:audit:*", ""),
            (
                Grant::of(Role::Write),
                "registry:audit:*",
                "pull,push,delete",
            ),
        ];
        for (grant, scope, expected) in rows {
            let found = grant.allowed(&scope.parse().unwrap());
            assert_eq!(found.to_string(), expected, "{grant:?} {scope}");
        }
    }
}
