//! The right that a request needs.

use deploy_spec::{Actions, RepositoryName, Scope as Wanted, scope::Resource};

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::client) enum Access {
    Pull,
    Push,
    Delete,
}

/// An access to a repository, or to none in particular.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::client) struct Scope {
    pub(in crate::client) repository: Option<RepositoryName>,
    pub(in crate::client) access: Access,
    /// Another repository, which is read.
    pub(in crate::client) from: Option<RepositoryName>,
}

impl Scope {
    pub(in crate::client) fn of(repository: &RepositoryName, access: Access) -> Self {
        Self {
            repository: Some(repository.clone()),
            access,
            from: None,
        }
    }

    /// The registry itself.
    pub(in crate::client) fn registry() -> Self {
        Self {
            repository: None,
            access: Access::Pull,
            from: None,
        }
    }

    /// Returns what a token is asked for, with spaces between: what the request needs, and what
    /// the registry said that it needs, each resource once.
    pub(super) fn together(&self, challenged: &[Wanted]) -> String {
        let mut all: Vec<Wanted> = Vec::new();
        let needs = self.needs();
        for scope in needs.iter().chain(challenged) {
            match all
                .iter_mut()
                .find(|known| known.resource == scope.resource)
            {
                Some(known) => known.actions = known.actions.or(scope.actions),
                None => all.push(scope.clone()),
            }
        }
        let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
        texts.join(" ")
    }

    fn needs(&self) -> Vec<Wanted> {
        let of = |name: &RepositoryName, actions| Wanted {
            resource: Resource::Repository(name.clone()),
            actions,
        };
        let actions = match self.access {
            Access::Pull => Actions::PULL,
            Access::Push => Actions {
                delete: false,
                ..Actions::ALL
            },
            Access::Delete => Actions::ALL,
        };
        let to = self.repository.iter().map(|name| of(name, actions));
        let from = self.from.iter().map(|name| of(name, Actions::PULL));
        to.chain(from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_and_what_is_asked_for_come_together() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let challenged: Vec<Wanted> = ["repository:a:delete", "registry:catalog:*"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let mount = Scope {
            from: Some(name("b")),
            ..Scope::of(&name("a"), Access::Push)
        };
        assert_eq!(
            mount.together(&challenged),
            "repository:a:pull,push,delete repository:b:pull registry:catalog:*"
        );
        assert_eq!(
            Scope::of(&name("a"), Access::Pull).together(&[]),
            "repository:a:pull"
        );
        assert_eq!(Scope::registry().together(&[]), "");
    }
}
