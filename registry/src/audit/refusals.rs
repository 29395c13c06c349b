//! Which refusals have a line of their own, and which are only counted: whoever is refused all
//! the time must not fill the disk. Pure, but for what it remembers; used by `log` alone.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use deploy_spec::audit::{Actor, Entry, action, kind};
use jiff::{SignedDuration, Timestamp};

/// Counts begin anew after this time.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// Lines of one client within it.
const LINES_OF_ONE: u32 = 10;
/// Lines of all clients within it.
const LINES: u32 = 200;
/// Clients that are told apart; the others are one.
const CLIENTS: usize = 4096;
/// How long a client may take to come back with a token.
const COMES_BACK: SignedDuration = SignedDuration::from_secs(10);
/// Clients that may be on their way.
const CHALLENGED: usize = 4096;

/// What refusals there were lately.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    since: Option<Timestamp>,
    lines: u32,
    clients: HashMap<IpAddr, Client>,
    /// Of those that are not told apart.
    others: u64,
    challenged: HashMap<Place, Challenged>,
}

/// Who asked, and in which repository.
type Place = (IpAddr, Option<String>);

#[derive(Debug, Default)]
struct Client {
    lines: u32,
    more: u64,
}

#[derive(Debug)]
struct Challenged {
    entry: Entry,
    until: Timestamp,
    more: u64,
}

impl Refusals {
    /// Whether there is nothing that a later call of [`Refusals::due`] could return.
    pub(super) fn is_empty(&self) -> bool {
        self.since.is_none() && self.challenged.is_empty()
    }

    /// Takes a refusal. Returns it where it is to have a line.
    pub(super) fn refused(&mut self, address: Option<IpAddr>, entry: Entry) -> Option<Entry> {
        self.since.get_or_insert(entry.time);
        let address = address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), client);
        let is_full = self.clients.len() >= CLIENTS && !self.clients.contains_key(&address);
        if is_full {
            self.others += 1;
            return None;
        }
        let client = self.clients.entry(address).or_default();
        if client.lines >= LINES_OF_ONE || self.lines >= LINES {
            client.more += 1;
            return None;
        }
        client.lines += 1;
        self.lines += 1;
        Some(entry)
    }

    /// Takes a refusal of somebody who did not say who he is, and may come back to do so.
    /// Returns it where it is to have a line at once.
    pub(super) fn challenged(&mut self, address: Option<IpAddr>, entry: Entry) -> Option<Entry> {
        let Some(address) = address else {
            return self.refused(None, entry);
        };
        let place = (client(address), entry.repository.clone());
        if let Some(challenged) = self.challenged.get_mut(&place) {
            challenged.more += 1;
            return None;
        }
        if self.challenged.len() >= CHALLENGED {
            return self.refused(Some(address), entry);
        }
        let until = entry.time.saturating_add(COMES_BACK);
        let until = until.unwrap_or(Timestamp::MAX);
        let challenged = Challenged {
            entry,
            until,
            more: 0,
        };
        self.challenged.insert(place, challenged);
        None
    }

    /// Forgets that somebody was sent away to say who he is: he did.
    pub(super) fn admitted(&mut self, address: IpAddr, repository: String) {
        if !self.challenged.is_empty() {
            self.challenged.remove(&(client(address), Some(repository)));
        }
    }

    /// Returns the lines that are due: of those who did not come back, and of counts whose time
    /// is over. With `all`, of all others too. Ids are new ones, from `id`.
    pub(super) fn due(
        &mut self,
        now: Timestamp,
        all: bool,
        mut id: impl FnMut() -> String,
    ) -> Vec<Entry> {
        let mut due = Vec::new();
        let is_over = |_: &Place, challenged: &mut Challenged| all || challenged.until <= now;
        let over: Vec<_> = self.challenged.extract_if(is_over).collect();
        for ((address, _), challenged) in over {
            let mut entry = challenged.entry;
            entry.more = Some(challenged.more).filter(|more| *more > 0);
            due.extend(self.refused(Some(address), entry));
        }
        let is_over = |since: Timestamp| now.duration_since(since).abs() >= WINDOW;
        if !self.since.is_some_and(|since| all || is_over(since)) {
            return due;
        }
        let mut summary = |peer: Option<IpAddr>, more: u64| {
            let actor = Actor::unnamed(kind::ANONYMOUS);
            let mut entry = Entry::new(now, id(), action::REFUSED, actor);
            entry.peer = peer.map(|address| address.to_string());
            entry.more = Some(more);
            entry.reason = Some(match peer {
                Some(_) => "more of them from this address".to_owned(),
                None => "more of them from many addresses".to_owned(),
            });
            entry
        };
        let mut others = self.others;
        let mut left = LINES;
        for (address, client) in self.clients.drain().filter(|(_, client)| client.more > 0) {
            match left {
                0 => others += client.more,
                _ => {
                    left -= 1;
                    let known = !address.is_unspecified();
                    due.push(summary(known.then_some(address), client.more));
                }
            }
        }
        if others > 0 {
            due.push(summary(None, others));
        }
        (self.since, self.lines, self.others) = (None, 0, 0);
        due
    }
}

/// Who has an IPv6 address has a network of them.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn entry(seconds: i64, repository: &str) -> Entry {
        let actor = Actor::unnamed(kind::ANONYMOUS);
        let mut entry = Entry::new(at(seconds), "1".to_owned(), action::REFUSED, actor);
        entry.repository = Some(repository.to_owned());
        entry
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn due(refusals: &mut Refusals, seconds: i64) -> Vec<(Option<String>, Option<u64>)> {
        let due = refusals.due(at(seconds), false, || "2".to_owned());
        let mut due: Vec<_> = due
            .into_iter()
            .map(|entry| (entry.peer, entry.more))
            .collect();
        due.sort();
        due
    }

    #[test]
    fn whoever_is_refused_often_is_counted() {
        let mut refusals = Refusals::default();
        for network in ["192.0.2.1", "2001:db8::1"] {
            let lines = (0..1000).filter_map(|_| refusals.refused(address(network), entry(0, "a")));
            assert_eq!(lines.count(), 10);
        }
        // The same network, and somebody else.
        assert_eq!(
            refusals.refused(address("2001:db8::2"), entry(1, "a")),
            None
        );
        assert!(
            refusals
                .refused(address("192.0.2.2"), entry(1, "a"))
                .is_some()
        );
        assert_eq!(due(&mut refusals, 59), []);
        let more = |peer: &str, more| (Some(peer.to_owned()), Some(more));
        assert_eq!(
            due(&mut refusals, 60),
            [more("192.0.2.1", 990), more("2001:db8::", 991)]
        );
        assert!(refusals.is_empty());
        assert!(
            refusals
                .refused(address("192.0.2.1"), entry(61, "a"))
                .is_some()
        );
    }

    #[test]
    fn many_who_are_refused_have_few_lines() {
        let mut refusals = Refusals::default();
        let mut lines = 0;
        for number in 0..100_000_u32 {
            let address = Some(IpAddr::V4(number.into()));
            lines += u32::from(refusals.refused(address, entry(0, "a")).is_some());
        }
        assert_eq!(lines, LINES);
        let due = due(&mut refusals, 60);
        assert_eq!(due.len(), LINES as usize + 1);
        let more: u64 = due.iter().filter_map(|(_, more)| *more).sum();
        assert_eq!(more, u64::from(100_000 - LINES));
    }

    #[test]
    fn whoever_comes_back_and_says_who_he_is_was_not_refused() {
        let mut refusals = Refusals::default();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(refusals.challenged(one, entry(0, "a")), None);
        assert_eq!(refusals.challenged(one, entry(0, "b")), None);
        assert_eq!(refusals.challenged(one, entry(1, "b")), None);
        assert_eq!(refusals.challenged(other, entry(0, "a")), None);
        refusals.admitted(one.unwrap(), "a".to_owned());
        assert_eq!(due(&mut refusals, 9), []);
        // The line of the second repository says that there was one more.
        assert_eq!(due(&mut refusals, 10), [(None, None), (None, Some(1))]);
        assert_eq!(due(&mut refusals, 80), []);
        assert!(refusals.is_empty());
    }
}
