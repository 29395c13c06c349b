//! Which repository holds a component or a configuration, and back. Used by whoever talks to a
//! registry about either.

use std::{fmt, str::FromStr};

use super::{
    COMPONENT_RULE, ComponentName, ConfigurationName, NAME_MAX, NameError, REPOSITORY_MAX,
    RepositoryName, check, is_path_component,
};

/// What stands before `components/` and `configs/` in the names of all repositories, so that
/// everything fits into one project of a hosted registry. Empty unless set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Prefix(Option<RepositoryName>);

/// What a repository holds, told from its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// `[prefix/]components/<name>`
    Component(ComponentName),
    /// `[prefix/]configs/<name>`
    Configuration(ConfigurationName),
}

const COMPONENTS: &str = "components";
const CONFIGS: &str = "configs";

/// The longest prefix in bytes: behind it, the longest name must still fit.
pub const PREFIX_MAX: usize = REPOSITORY_MAX - NAME_MAX - "/components/".len();

impl Prefix {
    /// Returns the empty prefix.
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns the repository of a component.
    pub fn component(&self, name: &ComponentName) -> RepositoryName {
        self.repository(COMPONENTS, name.as_str())
    }

    /// Returns the repository of a configuration.
    pub fn configuration(&self, name: &ConfigurationName) -> RepositoryName {
        self.repository(CONFIGS, name.as_str())
    }

    fn repository(&self, kind: &str, name: &str) -> RepositoryName {
        // The parts are checked, and PREFIX_MAX and NAME_MAX leave room for all of them.
        RepositoryName(match &self.0 {
            Some(prefix) => format!("{prefix}/{kind}/{name}").into(),
            None => format!("{kind}/{name}").into(),
        })
    }

    /// Returns what the repository holds under exactly this prefix; nothing for repositories
    /// of others.
    pub fn split(&self, repository: &RepositoryName) -> Option<Owned> {
        let (prefix, owned) = Self::split_any(repository)?;
        (prefix == *self).then_some(owned)
    }

    /// Returns what the repository holds and under which prefix, whatever that is; nothing
    /// for repositories of others.
    pub fn split_any(repository: &RepositoryName) -> Option<(Self, Owned)> {
        let mut parts = repository.as_str().rsplitn(3, '/');
        let name = parts.next()?;
        let owned = match parts.next()? {
            COMPONENTS => Owned::Component(name.parse().ok()?),
            CONFIGS => Owned::Configuration(name.parse().ok()?),
            _ => return None,
        };
        let prefix = parts.next().map(|prefix| RepositoryName(prefix.into()));
        Some((Self(prefix), owned))
    }
}

impl FromStr for Prefix {
    type Err = NameError;

    /// The empty text is the empty prefix; slashes at either end are ignored.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim_matches('/');
        if text.is_empty() {
            return Ok(Self::none());
        }
        let fits = text.split('/').all(is_path_component);
        check("prefix", text, PREFIX_MAX, fits, COMPONENT_RULE)?;
        Ok(Self(Some(RepositoryName(text.into()))))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(prefix) => prefix.fmt(formatter),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::PATH_COMPONENT, *};
    use proptest::prelude::*;

    #[test]
    fn longest_names_fit_behind_the_longest_prefix() {
        let prefix: Prefix = "p".repeat(PREFIX_MAX).parse().unwrap();
        let repository = prefix.component(&"n".repeat(NAME_MAX).parse().unwrap());
        assert_eq!(repository.as_str().len(), REPOSITORY_MAX);
        assert!("p".repeat(PREFIX_MAX + 1).parse::<Prefix>().is_err());
    }

    proptest! {
        #[test]
        fn prefix_splits_off_what_it_put_on(
            prefix in proptest::option::of(PATH_COMPONENT),
            name in PATH_COMPONENT,
        ) {
            let prefix: Prefix = prefix.unwrap_or_default().parse().unwrap();
            let component: ComponentName = name.parse().unwrap();
            let configuration: ConfigurationName = name.parse().unwrap();
            let of_component = prefix.component(&component);
            prop_assert!(of_component.as_str().parse::<RepositoryName>().is_ok());
            prop_assert_eq!(prefix.split(&of_component), Some(Owned::Component(component)));
            prop_assert_eq!(
                prefix.split(&prefix.configuration(&configuration)),
                Some(Owned::Configuration(configuration))
            );
            let other: Prefix = "other/project".parse().unwrap();
            prop_assert_eq!(other.split(&of_component), None);
        }
    }
}
