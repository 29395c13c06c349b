//! The steps that ask the operator's scripts: prepare, script, check. Only `deployer` calls it.

use super::{Deployer, Memory, chain};
use crate::{
    error::AgentError,
    hooks::{Check, Script, Switch, Tail},
    journal::{HookRun, JournalStep},
    machine::Id,
    record::Remembered,
    source::Source,
    stop::Stop,
};

/// What is asked: once, or until it says yes.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    Script(&'a Script),
    Check(&'a Check),
}

impl<S: Source> Deployer<S> {
    pub(super) async fn prepare(
        &self,
        new: &Id,
        old: Option<&Id>,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let Some(script) = &self.settings.prepare else {
            return Ok(());
        };
        self.note(|entry| entry.step = JournalStep::Prepare)?;
        let release = self.remembered(new);
        tracing::info!(release.id = %new, "asking the prepare script");
        let (run, result) = self.ask(Asked::Script(script), &release, old, stop).await;
        self.note_run("prepare", run, None);
        result
    }

    pub(super) async fn run_script(
        &self,
        memory: &mut Memory,
        new: &Id,
        old: Option<&Id>,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        self.note(|entry| {
            entry.step = JournalStep::Script;
            entry.unfinished = Some(new.clone());
            entry.old = old.cloned();
        })?;
        let release = self.remembered(new);
        tracing::info!(release.id = %new, "running the script");
        let script = &self.settings.script;
        let (run, result) = self.ask(Asked::Script(script), &release, old, stop).await;
        // At once, so that a crash from here on does not run it again. Where it cannot be
        // written, switching cannot either and says so.
        let next = result.is_ok().then_some(JournalStep::Switch);
        self.note_run("script", run, next);
        memory.remember(new, &result);
        result
    }

    pub(super) async fn check(
        &self,
        memory: &mut Memory,
        id: &Id,
        stop: &Stop,
    ) -> Result<(), AgentError> {
        let Some(check) = &self.settings.check else {
            return Ok(());
        };
        self.note(|entry| entry.step = JournalStep::Check)?;
        let old = self.journal().entry().old.clone();
        let release = self.remembered(id);
        tracing::info!(release.id = %id, "asking the check script");
        let (run, result) = self
            .ask(Asked::Check(check), &release, old.as_ref(), stop)
            .await;
        let next = result.is_ok().then_some(JournalStep::Save);
        self.note_run("check", run, next);
        memory.remember(id, &result);
        result
    }

    /// Runs one of the scripts for `release`; returns what the journal says of it, and what it
    /// said itself.
    pub(super) async fn ask(
        &self,
        asked: Asked<'_>,
        release: &Remembered,
        old: Option<&Id>,
        stop: &Stop,
    ) -> (HookRun, Result<(), AgentError>) {
        let old = old.map(|id| {
            let tree = self.directory.has_tree(id).then(|| self.directory.tree(id));
            (id.to_string(), tree.unwrap_or_default())
        });
        let switch = Switch {
            old,
            new: &release.record,
            new_root: self.directory.tree(&release.record.id),
            environment: &release.environment,
            image: release.image.as_ref(),
            directory: self.directory.path(),
        };
        let began = (self.settings.clock)();
        let tail = Tail::default();
        let result = if stop.is_stopped() {
            Err(AgentError::Interrupted)
        } else {
            match asked {
                Asked::Script(script) => script.run(&switch, &tail, stop).await,
                Asked::Check(check) => check.run(&switch, &tail, stop).await,
            }
        };
        let (status, outcome) = match &result {
            Ok(()) => (Some(0), "exited with status 0".to_owned()),
            Err(AgentError::Refused {
                status, outcome, ..
            }) => (*status, super::one_line(outcome)),
            Err(error) => (None, chain(error)),
        };
        let run = HookRun {
            release: release.record.id.clone(),
            began,
            ended: (self.settings.clock)(),
            status,
            outcome,
            output: tail.take(),
        };
        (run, result)
    }

    /// Writes down how a script ended, and the next step where it is known. That it could not
    /// be written changes nothing of what the script said.
    fn note_run(&self, name: &str, run: HookRun, next: Option<JournalStep>) {
        let noted = self.note(|entry| {
            entry.hooks.insert(name.to_owned(), run);
            entry.step = next.unwrap_or(entry.step);
        });
        if let Err(error) = noted {
            tracing::debug!("{}", chain(&error));
        }
    }
}

impl Memory {
    /// Keeps why a release was refused: that is said of it on the bad-list.
    fn remember(&mut self, id: &Id, result: &Result<(), AgentError>) {
        if let Err(error @ AgentError::Refused { .. }) = result {
            self.refusal = Some((id.clone(), chain(error)));
        }
    }
}
