//! The processes that a script starts, ended together. Only `hooks` calls it.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    process::Child,
    time::{sleep, timeout},
};

/// How long a script may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether a group that was asked to end has ended.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// The process group of a running script; killed when dropped, which is what happens when the
/// agent is told twice to end.
pub(super) struct Group(Option<Pid>);

impl Group {
    pub(super) fn of(leader: &Child) -> Self {
        Self(
            leader
                .id()
                .and_then(|id| Pid::from_raw(id.try_into().ok()?)),
        )
    }

    /// Leaves alone what is still running.
    pub(super) fn leave(&mut self) {
        self.0 = None;
    }

    /// Ends the group and waits for it.
    pub(super) async fn end(&mut self, leader: &mut Child) {
        let Some(group) = self.0 else { return };
        tracing::info!("ending the script");
        // Fails only where the group is gone already, which is what is wanted.
        kill_process_group(group, Signal::TERM).ok();
        let gone = async {
            leader.wait().await.ok();
            while test_kill_process_group(group).is_ok() {
                sleep(TICK).await;
            }
        };
        if timeout(GRACE, gone).await.is_ok() {
            self.leave();
            return;
        }
        tracing::warn!("the script does not end by itself and is killed");
        kill_process_group(group, Signal::KILL).ok();
        self.leave();
        leader.wait().await.ok();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}
