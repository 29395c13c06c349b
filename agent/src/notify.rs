//! Tells the service manager how far the agent is, and that it is alive (sd_notify(3)). Made by
//! `main` from the environment, used by it and by `runner`.

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
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

/// Where the service manager listens, if there is one, and how often it wants to hear.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    address: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Returns the one that the values of `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` tell
    /// of; a watchdog for another process than this one is none of ours.
    pub fn new(socket: Option<&OsStr>, microseconds: Option<&OsStr>, pid: Option<&OsStr>) -> Self {
        let address = socket.and_then(|address| match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            [b'/', ..] => SocketAddr::from_pathname(address).ok(),
            _ => None,
        });
        let number = |text: Option<&OsStr>| text?.to_str()?.parse::<u64>().ok();
        let ours = pid.is_none() || number(pid) == Some(u64::from(std::process::id()));
        let watchdog = number(microseconds).filter(|microseconds| ours && *microseconds > 0);
        Self {
            address,
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// The agent has its directory and its source, and begins.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// What the agent is at, in a line for people.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", status.replace('\n', " ")));
    }

    /// The agent ends: what it is at comes to its end first.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Tells that the agent is alive, twice as often as the service manager wants to hear, and
    /// never returns. Whoever awaits this beside the work shows that the thread which both share
    /// is not stuck.
    pub async fn stay_alive(&self) {
        let Some(watchdog) = self.watchdog.filter(|_| self.address.is_some()) else {
            return std::future::pending().await;
        };
        let mut ticks = interval((watchdog / 2).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.address else {
            return;
        };
        let tell = || -> io::Result<usize> {
            let socket = UnixDatagram::unbound()?;
            // A manager that does not read must not keep the agent from its work.
            socket.set_nonblocking(true)?;
            socket.send_to_addr(state.as_bytes(), address)
        };
        if let Err(error) = tell() {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Manager(tempfile::TempDir, UnixDatagram);

    impl Manager {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
            Self(directory, socket)
        }

        fn notify(&self, microseconds: &str, pid: Option<&str>) -> Notify {
            let path = self.0.path().join("notify");
            let pid = pid.map(OsStr::new);
            Notify::new(Some(path.as_os_str()), Some(OsStr::new(microseconds)), pid)
        }

        fn told(&self) -> String {
            let mut buffer = [0; 128];
            let length = self.1.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        }
    }

    #[test]
    fn the_manager_is_told() {
        let manager = Manager::new();
        let notify = manager.notify("0", None);
        notify.ready();
        notify.status("following\nconfigs/x");
        notify.stopping();
        assert_eq!(manager.told(), "READY=1");
        assert_eq!(manager.told(), "STATUS=following configs/x");
        assert_eq!(manager.told(), "STOPPING=1");
        for nobody in [None, Some(OsStr::new("")), Some(OsStr::new("vsock:2"))] {
            let notify = Notify::new(nobody, Some(OsStr::new("1")), None);
            assert!(notify.address.is_none());
            notify.ready();
        }
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_again_and_again() {
        let manager = Manager::new();
        let own = std::process::id().to_string();
        let notify = manager.notify("20000", Some(&own));
        assert_eq!(notify.watchdog, Some(Duration::from_millis(20)));
        let manager = Arc::new(manager);
        let listening = Arc::clone(&manager);
        let listen = tokio::task::spawn_blocking(move || {
            for _ in 0..3 {
                assert_eq!(listening.told(), "WATCHDOG=1");
            }
        });
        tokio::select! {
            () = notify.stay_alive() => panic!("it never returns"),
            heard = listen => heard.unwrap(),
        }
        for foreign in [
            manager.notify("30000000", Some("1")),
            manager.notify("no number", None),
            manager.notify("0", Some(&own)),
        ] {
            assert!(foreign.watchdog.is_none());
        }
    }
}
