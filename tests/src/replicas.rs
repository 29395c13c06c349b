//! Our registry in several processes over one bucket. Called by the scenarios and by `replicas`.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::minio::Minio;
use crate::programs::Program;
use crate::registry::opened;
use crate::round_robin::RoundRobin;
use crate::server::Server;

/// Running replicas of one registry, and a load balancer before them. Dropping them kills them.
#[derive(Debug)]
pub struct Replicas {
    replicas: Vec<Replica>,
    round_robin: RoundRobin,
    environment: Vec<(&'static str, String)>,
    store: String,
    flags: Vec<String>,
    logs: TempDir,
}

#[derive(Debug)]
struct Replica {
    server: Server,
    address: SocketAddr,
}

impl Replicas {
    /// Starts so many on a part of the bucket that is theirs alone, called `prefix`. Where the flags name files
    /// of keys or passwords, they are not open to everyone.
    ///
    /// # Panics
    /// When one does not come up; the message holds its log.
    pub fn start(minio: &Minio, prefix: &str, count: usize, flags: &[&str]) -> Self {
        Self::try_start(minio, prefix, count, flags).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn try_start(minio: &Minio, prefix: &str, count: usize, flags: &[&str]) -> Result<Self> {
        let logs = tempfile::tempdir().context("make a directory for logs")?;
        let environment = minio.environment();
        let store = format!("s3://{}/{prefix}", Minio::BUCKET);
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let start = |index: usize| -> Result<Replica> {
            let log = logs.path().join(format!("{index}.log"));
            let mut server = Server::start(command(&store, &environment, 0, &flags), log)?;
            let address = server.address().context("start a replica")?;
            Ok(Replica { server, address })
        };
        let replicas = (0..count).map(start).collect::<Result<Vec<_>>>()?;
        let addresses = replicas.iter().map(|replica| replica.address).collect();
        Ok(Self {
            round_robin: RoundRobin::start(addresses)?,
            replicas,
            environment,
            store,
            flags,
            logs,
        })
    }

    /// The address of the load balancer.
    pub fn address(&self) -> String {
        self.round_robin.address().to_string()
    }

    /// The address of one replica.
    pub fn replica(&self, index: usize) -> String {
        self.replicas[index].address.to_string()
    }

    /// Kills a replica with signal 9, as a crash would, and waits until it is gone.
    pub fn kill(&mut self, index: usize) {
        self.replicas[index].server.kill();
    }

    /// Starts a replica again, on the port that it had.
    ///
    /// # Panics
    /// When it does not come up; the message holds its log.
    pub fn restart(&mut self, index: usize) {
        let port = self.replicas[index].address.port();
        let log = self.logs.path().join(format!("{index}.log"));
        let command = command(&self.store, &self.environment, port, &self.flags);
        let mut server = Server::start(command, log).expect("a replica starts again");
        server.address().expect("a replica listens again");
        self.replicas[index].server = server;
    }

    /// All that a replica has logged since its last start.
    pub fn log(&self, index: usize) -> String {
        self.replicas[index].server.log()
    }
}

fn command(
    store: &str,
    environment: &[(&'static str, String)],
    port: u16,
    flags: &[String],
) -> Command {
    let mut command = Command::new(Program::Registry.path());
    command
        .args(["-addr", &format!("127.0.0.1:{port}")])
        .args(["--store", store])
        .args(opened(flags))
        .args(flags)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    command
}
