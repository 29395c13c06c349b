//! Hosts whose disks are too small for what they reserve, and whose clocks go backwards.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    thread::yield_now,
};

use super::*;

#[tokio::test]
async fn nothing_is_fetched_where_the_reserve_would_be_touched() {
    let mut host = Host::new();
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    let fetched = || host.source.fetched.load(Ordering::Relaxed);
    let before = fetched();
    host.reserve = u64::MAX;
    let second = host.release(2);
    assert_eq!(host.look().await, Exit::Failure);
    assert_eq!(host.source.fetched.load(Ordering::Relaxed), before);
    host.assert_on(&first);
    // What is deployed already takes nothing more.
    host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    host.reserve = 0;
    assert_eq!(second, host.release(2));
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
}

#[tokio::test]
async fn what_is_under_way_is_ended_when_the_reserve_is_used_up_or_somebody_says_so() {
    let mut host = Host::new();
    host.reserve = u64::MAX;
    let until_told = |stop: Stop| -> Result<(), AgentError> {
        while !stop.is_stopped() {
            yield_now();
        }
        Err(AgentError::Interrupted)
    };
    let stop = Stop::default();
    let ended = host
        .deployer()
        .while_there_is_room(&stop, until_told)
        .await
        .unwrap_err();
    let message = chain(&ended);
    assert!(
        ended.is_storage_full() && message.starts_with("too little room in"),
        "{message}"
    );
    host.reserve = 0;
    let deployer = host.deployer();
    let telling = async {
        tokio::task::yield_now().await;
        stop.stop();
    };
    let (ended, ()) = tokio::join!(deployer.while_there_is_room(&stop, until_told), telling);
    assert!(matches!(ended, Err(AgentError::Interrupted)), "{ended:?}");
    drop(deployer);
    // What is done is done, whatever room there is.
    host.reserve = u64::MAX;
    let done = host.deployer().while_there_is_room(&stop, |_| Ok(7)).await;
    assert_eq!(done.unwrap(), 7);
}

#[tokio::test]
async fn a_clock_that_is_set_back_changes_nothing_but_the_times_that_are_shown() {
    fn backwards() -> Timestamp {
        static SECONDS: AtomicI64 = AtomicI64::new(1 << 31);
        let seconds = SECONDS.fetch_sub(1_000_000, Ordering::Relaxed);
        Timestamp::from_second(seconds).unwrap()
    }
    let mut host = Host::new();
    host.clock = backwards;
    let first = host.release(1);
    assert_eq!(host.look().await, Exit::Success);
    let second = host.release(2);
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&second);
    let entry = host.entry();
    assert_eq!(entry.history[0].record.id, first, "the last one first");
    assert!(entry.deployed.unwrap().since < entry.history[0].since);
    // A release that fails is bad from then on, whenever that was.
    host.hook("check", "false");
    host.check_timeout = std::time::Duration::from_millis(1);
    let third = host.release(3);
    assert_eq!(host.look().await, Exit::Failure);
    host.assert_on(&second);
    assert_eq!(host.entry().bad[0].id, third);
    assert_eq!(host.look().await, Exit::Failure);
    let fourth = host.release(4);
    host.hook("check", "true");
    host.check_timeout = super::host::LONG;
    assert_eq!(host.look().await, Exit::Success);
    host.assert_on(&fourth);
}
