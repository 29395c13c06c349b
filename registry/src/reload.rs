//! What SIGHUP changes: limits and the log's filter, as `--config` says them now, the certificate,
//! who is known, and the file of the access log, which is opened anew. Used by `serve`.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use deploy_registry::{
    AccessLog, Limiter, Tls,
    auth::{Gatekeeper, Sources},
};

use crate::{
    arguments::{ConfigFile, LimitFlags},
    log::Log,
    trust::CertificateFiles,
    watched::Watched,
};

/// Everything that can be changed while the registry serves.
pub(crate) struct Reload {
    pub(crate) file: Option<PathBuf>,
    pub(crate) flags: LimitFlags,
    pub(crate) limiter: Limiter,
    pub(crate) access_log: AccessLog,
    pub(crate) log: Log,
    /// A certificate that is in files.
    pub(crate) certificate: Option<(Tls, CertificateFiles)>,
    /// Whoever knows people, who are in files.
    pub(crate) people: Option<(Arc<Gatekeeper>, Sources)>,
}

impl Reload {
    /// Reads the file and does what it says.
    ///
    /// # Errors
    /// Where it cannot be read or understood, everything stays as it is.
    pub(crate) fn load(&self) -> Result<()> {
        let file = match &self.file {
            None => ConfigFile::default(),
            Some(path) => {
                let cannot = || format!("cannot read `{}`", path.display());
                let text = std::fs::read_to_string(path).with_context(cannot)?;
                ConfigFile::parse(&text).with_context(cannot)?
            }
        };
        self.log.set_filter(file.log.as_deref())?;
        let limits = self.flags.limits(&file.limits);
        self.limiter.set(limits);
        tracing::debug!(?limits, "limits are set");
        if let Some((tls, files)) = &self.certificate {
            tls.reload(&files.certificate, &files.key)?;
        }
        if let Some((gatekeeper, sources)) = &self.people {
            gatekeeper.reload(sources)?;
        }
        Ok(())
    }

    /// Returns the files that are read again when they change, without a signal.
    pub(crate) fn watched(&self) -> Watched {
        let files = self.certificate.iter();
        let files = files.flat_map(|(_, files)| [&files.certificate, &files.key]);
        let people = self.people.iter();
        let people = people.flat_map(|(_, sources)| sources.files());
        Watched::new(files.chain(people).cloned().collect())
    }

    /// Does [`Reload::load`] again, and opens the access log anew. What fails is logged.
    pub(crate) fn again(&self) {
        if let Err(error) = self.access_log.reopen() {
            tracing::error!(%error, "cannot open the access log anew: the old one goes on");
        }
        match self.load() {
            Ok(()) => tracing::info!("reloaded"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "cannot reload: everything stays as it was");
            }
        }
    }
}
