//! Tells the service manager how far the program is (sd_notify(3)). Used by `serve`.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Where the service manager listens, if there is one.
#[derive(Debug)]
pub(crate) struct Notify(Option<SocketAddr>);

impl Notify {
    /// Returns the one behind an address as in `NOTIFY_SOCKET`.
    pub(crate) fn new(address: Option<&OsStr>) -> Self {
        let address = address.and_then(|address| match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            [b'/', ..] => SocketAddr::from_pathname(address).ok(),
            _ => None,
        });
        Self(address)
    }

    /// Requests are taken.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// No more requests are taken.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.0 else {
            return;
        };
        let tell = || -> io::Result<usize> {
            UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), address)
        };
        if let Err(error) = tell() {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::new(Some(path.as_os_str()));
        notify.ready("serving");
        notify.stopping();
        let mut buffer = [0; 64];
        let mut told = || {
            let length = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(told(), "READY=1\nSTATUS=serving");
        assert_eq!(told(), "STOPPING=1");
        for nobody in [None, Some(OsStr::new("")), Some(OsStr::new("vsock:2"))] {
            Notify::new(nobody).ready("x");
        }
    }
}
