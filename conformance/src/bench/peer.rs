//! The registries side by side, and what was pushed to each to be read. For `bench` and
//! `scenario`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::arguments::Address;
use super::connection::Connection;
use super::process::Process;

/// One registry under load.
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) authority: String,
    address: SocketAddr,
    pub(crate) process: Option<Process>,
    pub(crate) process_id: Option<u32>,
    /// The start of the name of all repositories of this run.
    pub(crate) repository: String,
    /// Whole requests for what was prepared, by what it is; or why it could not be.
    prepared: HashMap<String, Result<Arc<[String]>, String>>,
}

impl Peer {
    /// A registry by its address.
    pub(crate) fn new(address: &Address, remote: bool, repository: String) -> anyhow::Result<Self> {
        let process = match address.process {
            Some(id) => Some(
                Process::open(id)
                    .ok_or_else(|| anyhow::anyhow!("there is no process `{id}` to look at"))?,
            ),
            None => None,
        };
        Ok(Self {
            name: address.name.clone(),
            authority: address.authority.clone(),
            address: address.resolve(remote)?,
            process,
            process_id: address.process,
            repository,
            prepared: HashMap::new(),
        })
    }

    /// A connection of its own for one client.
    pub(crate) fn connection(&self) -> Connection {
        Connection::new(self.address, &self.authority)
    }

    /// What `prepare` made, made when it is first asked for. What failed is not tried again.
    pub(crate) fn prepared(
        &mut self,
        what: &str,
        prepare: impl FnOnce(&Self) -> anyhow::Result<Vec<String>>,
    ) -> anyhow::Result<Arc<[String]>> {
        if !self.prepared.contains_key(what) {
            let made = prepare(self)
                .map(Arc::from)
                .map_err(|error| format!("{error:#}"));
            self.prepared.insert(what.to_owned(), made);
        }
        self.prepared[what].clone().map_err(anyhow::Error::msg)
    }
}
