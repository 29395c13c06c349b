//! A way to a server that lets so many bytes pass and then holds them back, so that a program can be caught
//! in the middle of what it sends. For scenarios of interrupted transfers.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// How much is passed on at a time.
const PIECE: usize = 16 * 1024;

/// A running dam. Its threads end with the connections that they serve, and with the test.
#[derive(Debug)]
pub struct Dam {
    address: SocketAddr,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    level: Mutex<Level>,
    changed: Condvar,
}

#[derive(Debug)]
struct Level {
    /// Bytes that went to the server, over all connections.
    passed: u64,
    /// How many may; any number once it was broken.
    limit: Option<u64>,
    /// How often it was broken: connections of before are over.
    broken: u64,
}

impl Dam {
    /// Starts one in front of `server`, on a port of its own, that holds back what goes there after `limit`
    /// bytes.
    ///
    /// # Errors
    /// When no port is to be had.
    pub fn start(server: SocketAddr, limit: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen on loopback")?;
        let address = listener.local_addr()?;
        let gate = Arc::new(Gate {
            level: Mutex::new(Level {
                passed: 0,
                limit: Some(limit),
                broken: 0,
            }),
            changed: Condvar::new(),
        });
        let shared = gate.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let gate = shared.clone();
                // That one side goes away is the other one's to notice.
                thread::spawn(move || connection(client, server, &gate).ok());
            }
        });
        Ok(Self { address, gate })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes went to the server so far.
    pub fn passed(&self) -> u64 {
        self.gate.level().passed
    }

    /// Ends all connections there are, and lets everything pass from now on.
    pub fn break_up(&self) {
        let mut level = self.gate.level();
        level.limit = None;
        level.broken += 1;
        self.gate.changed.notify_all();
    }
}

impl Gate {
    fn level(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until some of so many bytes may pass, and returns how many; none where the dam was broken after
    /// the connection came.
    fn enter(&self, came: u64, wanted: usize) -> usize {
        let mut level = self.level();
        loop {
            if level.broken != came {
                return 0;
            }
            let left = level.limit.map_or(u64::MAX, |limit| limit - level.passed);
            let count = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
            if count > 0 {
                level.passed += count as u64;
                return count;
            }
            let changed = self.changed.wait(level);
            level = changed.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn connection(mut client: TcpStream, server: SocketAddr, gate: &Gate) -> io::Result<()> {
    let came = gate.level().broken;
    let mut server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (mut back, mut answers) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        io::copy(&mut answers, &mut back).ok();
        back.shutdown(Shutdown::Both).ok();
    });
    let done = pass(&mut client, &mut server, came, gate);
    server.shutdown(Shutdown::Both).ok();
    done
}

fn pass(client: &mut TcpStream, server: &mut TcpStream, came: u64, gate: &Gate) -> io::Result<()> {
    let mut piece = [0; PIECE];
    loop {
        let count = client.read(&mut piece)?;
        let mut rest = &piece[..count];
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let count = gate.enter(came, rest.len());
            if count == 0 {
                return Ok(());
            }
            server.write_all(&rest[..count])?;
            rest = &rest[count..];
        }
    }
}
