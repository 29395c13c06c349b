//! What a token is asked for and grants, as the token service of the distribution project has it:
//! `repository:configs/project1:pull,push`. Parsed by the registry, written by clients.

use std::{fmt, str::FromStr};

use crate::RepositoryName;

/// What may be done with a resource. A set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions {
    /// Reading.
    pub pull: bool,
    /// Writing.
    pub push: bool,
    /// Removing.
    pub delete: bool,
}

impl Actions {
    /// Nothing.
    pub const NONE: Self = Self {
        pull: false,
        push: false,
        delete: false,
    };
    /// Reading alone.
    pub const PULL: Self = Self {
        pull: true,
        ..Self::NONE
    };
    /// Everything.
    pub const ALL: Self = Self {
        pull: true,
        push: true,
        delete: true,
    };

    /// Returns what is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            pull: self.pull && other.pull,
            push: self.push && other.push,
            delete: self.delete && other.delete,
        }
    }

    /// Returns what is in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            pull: self.pull || other.pull,
            push: self.push || other.push,
            delete: self.delete || other.delete,
        }
    }

    /// Whether all of `other` is in it.
    pub fn include(self, other: Self) -> bool {
        self.and(other) == other
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Returns the names of what is in it, in a fixed order.
    pub fn names(self) -> Vec<&'static str> {
        let named = [
            (self.pull, "pull"),
            (self.push, "push"),
            (self.delete, "delete"),
        ];
        let there = named.into_iter().filter(|(there, _)| *there);
        there.map(|(_, name)| name).collect()
    }
}

impl<'a> FromIterator<&'a str> for Actions {
    /// Names that nobody knows are passed over, as the token service has it; `*` is everything.
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        names.into_iter().fold(Self::NONE, |actions, name| {
            let named = match name {
                "pull" => Self::PULL,
                "push" => Self {
                    push: true,
                    ..Self::NONE
                },
                "delete" => Self {
                    delete: true,
                    ..Self::NONE
                },
                "*" => Self::ALL,
                _ => Self::NONE,
            };
            actions.or(named)
        })
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.names().join(","))
    }
}

/// What actions are of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A repository: `repository:NAME`.
    Repository(RepositoryName),
    /// The list of all repositories: `registry:catalog`.
    Catalog,
    /// The log of who did what: `registry:audit`.
    Audit,
    /// All blobs, whichever repository they are in: `registry:blobs`. What mounting one takes
    /// that says nothing of where it is.
    Blobs,
}

impl fmt::Display for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(name) => write!(formatter, "repository:{name}"),
            Self::Catalog => formatter.write_str("registry:catalog"),
            Self::Audit => formatter.write_str("registry:audit"),
            Self::Blobs => formatter.write_str("registry:blobs"),
        }
    }
}

/// A resource and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// With what.
    pub resource: Resource,
    /// What is done.
    pub actions: Actions,
}

/// A text that is no scope, or one of a resource that registries of ours do not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no scope, such as `repository:NAME:pull,push`", .0.escape_debug())]
pub struct ScopeError(String);

impl FromStr for Scope {
    type Err = ScopeError;

    /// A type may have a class behind it, as in `repository(plugin):`; it says nothing here.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let error = || ScopeError(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(error)?;
        let (name, actions) = rest.rsplit_once(':').ok_or_else(error)?;
        let kind = kind.split_once('(').map_or(kind, |(kind, _)| kind);
        let resource = match kind {
            "repository" => Resource::Repository(name.parse().map_err(|_| error())?),
            "registry" if name == "catalog" => Resource::Catalog,
            "registry" if name == "audit" => Resource::Audit,
            "registry" if name == "blobs" => Resource::Blobs,
            _ => return Err(error()),
        };
        let actions = actions.split(',').map(str::trim).collect();
        Ok(Self { resource, actions })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // These have one action, whose name is a star.
        match self.resource {
            Resource::Catalog | Resource::Audit | Resource::Blobs => {
                write!(formatter, "{}:*", self.resource)
            }
            Resource::Repository(_) => write!(formatter, "{}:{}", self.resource, self.actions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_survive_a_round_trip() {
        for text in [
            "repository:a:pull",
            "repository:configs/project1:pull,push",
            "repository:a/b/c:pull,push,delete",
            "registry:catalog:*",
            "registry:audit:*",
            "registry:blobs:*",
        ] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        let read = |text: &str| text.parse::<Scope>().unwrap().actions;
        assert_eq!(read("repository:a:*"), Actions::ALL);
        assert_eq!(read("repository(plugin):a:pull,fly"), Actions::PULL);
        assert_eq!(read("repository:a:"), Actions::NONE);
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in [
            "",
            "repository",
            "repository:a",
            "repository:A:pull",
            "repository::pull",
            "registry:other:*",
            "ssh:a:pull",
        ] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }

    #[test]
    fn sets_of_actions_are_sets() {
        let [none, pull, all] = [Actions::NONE, Actions::PULL, Actions::ALL];
        assert!(none.is_empty() && !pull.is_empty());
        assert!(all.include(pull) && pull.include(none) && !pull.include(all));
        assert_eq!((all.and(pull), pull.or(none)), (pull, pull));
    }
}
