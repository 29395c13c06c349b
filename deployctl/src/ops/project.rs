//! Where the verbs work: a registry and a prefix, with the clock and the names that they write.

use std::path::PathBuf;

use deploy_spec::{ComponentName, ConfigurationName, Prefix};
use jiff::Timestamp;

use super::signatures::Sealing;
use crate::{
    client::{Registry, Repository},
    ssh::Signer,
};

/// A registry's part that one set of components and configurations lives in.
#[derive(Clone, Debug)]
pub struct Project {
    /// The registry.
    pub registry: Registry,
    /// What stands before the names of all repositories.
    pub prefix: Prefix,
    /// What time it is.
    pub clock: fn() -> Timestamp,
    /// Who makes releases, where that is known.
    pub author: Option<String>,
    /// Who signs releases that are made, where somebody does.
    pub signer: Option<Signer>,
    /// A directory for files that are packed and sent.
    pub scratch: PathBuf,
}

impl Project {
    /// Returns the repository of a component.
    pub fn component(&self, name: &ComponentName) -> Repository {
        self.registry.repository(self.prefix.component(name))
    }

    /// Returns the repository of a configuration.
    pub fn configuration(&self, name: &ConfigurationName) -> Repository {
        self.registry.repository(self.prefix.configuration(name))
    }

    pub(super) fn sealing(&self) -> Option<Sealing> {
        self.signer.as_ref().map(|signer| Sealing {
            signer: signer.clone(),
            clock: self.clock,
        })
    }

    /// Returns the time in milliseconds, so that versions made within one second keep their
    /// order.
    pub(super) fn now(&self) -> Timestamp {
        let milliseconds = (self.clock)().as_millisecond();
        Timestamp::from_millisecond(milliseconds).expect("the millisecond of a time is one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{archive::PackOptions, client::Progress, ops::Source, signing::AllowedSigners};

    fn is_send(_: impl Send) {}

    /// Never called: that it compiles is the test.
    #[expect(dead_code, reason = "it is compiled, not run")]
    fn every_verb_can_be_spawned(project: &Project, change: &crate::ops::LayerChange) {
        let (layer, progress) = (&change.layer, &Progress::none());
        let (name, channel, component) = (&change.configuration, &change.channel, &layer.component);
        let source = Source::File(PathBuf::new());
        is_send(project.add_version(layer, &source, None, progress));
        is_send(project.push(layer, &[], PackOptions::default(), None, progress));
        is_send(project.add_configuration(name, channel, &[], None));
        is_send(project.change_configuration(change, None));
        is_send(project.bump_configuration(name, channel, component, None));
        is_send(project.show_configuration(name, channel));
        is_send(project.show_component(component));
        is_send(project.components());
        is_send(project.configurations());
        is_send(project.delete_version(layer));
        if let Some(signer) = &project.signer {
            let release = crate::ops::ReleaseName::Channel(channel.clone());
            let purpose = deploy_spec::signature::Purpose::Rollback;
            is_send(project.sign_release(name, &release, channel, purpose, signer));
            is_send(project.signatures(name, &release, &AllowedSigners::default()));
        }
        is_send(project.delete_component(component));
        is_send(project.delete_configuration(name));
    }
}
