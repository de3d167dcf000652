//! Owns what each client owes: work that it causes is charged to it, and a message that is accepted settles its account.
//!
//! A client is an address (of IPv6 its first 64 bits: a host has all of them). It may take so much of a worker's time a
//! minute (`client_allowance`) without getting a message accepted. Beyond, nothing of it is read until the debt is paid
//! off by waiting. Whoever sends mail that is accepted never waits; whoever knocks, talks, floods or sends what is refused
//! slows down to the allowance, however many connections it has, and everybody else's share of the worker stays.
//!
//! What work costs is estimated by constants, so that the same life costs the same in a replay. Memory is bounded: when
//! the table is full, accounts without connections are closed, and where there are none the newcomer has no account.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use mailrace_io::Instant;

/// The accounts of a worker's clients. Connections are named by their slots.
#[derive(Debug)]
pub(super) struct Accounts {
    /// For each slot the account of the connection there.
    of_connection: Vec<Option<AccountId>>,
    /// For each slot whether its connection waits for its client to pay: nothing is read from it.
    is_waiting: Vec<bool>,
    by_client: HashMap<u128, AccountId>,
    accounts: Vec<Account>,
    /// Where to look next for an account that may be closed.
    hand: usize,
}

/// The place of an account, one more than it is: so an account or none is four octets.
type AccountId = NonZeroU32;

#[derive(Debug)]
struct Account {
    client: u128,
    /// Connections that are open.
    connections: u32,
    /// What it may still take, below zero what it owes; in nanoseconds.
    credit: i64,
    /// A message of it was accepted, and since then it has not owed.
    is_proven: bool,
    /// Up to when waiting has been paid for.
    paid_until: Instant,
}

impl Accounts {
    /// For so many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            of_connection: vec![None; slots],
            is_waiting: vec![false; slots],
            by_client: HashMap::new(),
            accounts: Vec::new(),
            hand: 0,
        }
    }

    /// A connection of a client is open; how many it has now.
    pub(super) fn connect(&mut self, slot: u32, client: IpAddr, allowance: Duration, now: Instant) -> u32 {
        let client = key(client);
        let id = self.by_client.get(&client).copied().or_else(|| {
            let new = Account {
                client,
                connections: 0,
                credit: nanoseconds(allowance),
                is_proven: false,
                paid_until: now,
            };
            self.open(new)
        });
        self.of_connection[slot as usize] = id;
        let Some(account) = self.of(slot) else { return 1 };
        account.connections += 1;
        account.connections
    }

    /// A connection ended.
    pub(super) fn disconnect(&mut self, slot: u32) {
        self.leave(slot);
        self.is_waiting[slot as usize] = false;
    }

    /// The connection is no longer counted, nor charged to anybody; if it waits, it goes on waiting.
    pub(super) fn leave(&mut self, slot: u32) {
        if let Some(account) = self.of(slot) {
            account.connections -= 1;
        }
        self.of_connection[slot as usize] = None;
    }

    /// Whether the connection waits.
    pub(super) fn is_waiting(&self, slot: u32) -> bool {
        self.is_waiting[slot as usize]
    }

    /// Connections that are charged to anybody.
    pub(super) fn connected(&self) -> usize {
        let counted: usize = self.accounts.iter().map(|account| account.connections as usize).sum();
        counted.max(self.of_connection.iter().flatten().count())
    }

    /// The connection waits, or does not any more; what it did before.
    pub(super) fn set_waiting(&mut self, slot: u32, is_waiting: bool) -> bool {
        std::mem::replace(&mut self.is_waiting[slot as usize], is_waiting)
    }

    /// Whether the work of the connection there is charged to anybody.
    pub(super) fn has(&self, slot: u32) -> bool {
        self.of_connection[slot as usize].is_some()
    }

    /// Whether its client has yet to show that it sends mail: its connections are read in small pieces, so that none of
    /// them brings more than it is charged for before it can be made to wait.
    pub(super) fn is_unproven(&self, slot: u32) -> bool {
        let id = self.of_connection[slot as usize];
        id.is_some_and(|id| !self.accounts[id.get() as usize - 1].is_proven)
    }

    /// Takes `cost` from the client; how long nothing of it is to be read, if it owes.
    pub(super) fn charge(
        &mut self,
        slot: u32,
        cost: Duration,
        allowance: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let account = self.of(slot)?;
        let allowance = nanoseconds(allowance);
        if allowance == 0 {
            return None;
        }
        let waited = nanoseconds(now.since(account.paid_until));
        account.paid_until = now;
        // A minute's waiting pays for the whole allowance.
        let paid = i128::from(waited) * i128::from(allowance) / i128::from(nanoseconds(PERIOD));
        let paid = i64::try_from(paid).unwrap_or(i64::MAX);
        let credit = account.credit.saturating_add(paid).min(allowance).saturating_sub(nanoseconds(cost));
        account.credit = credit.max(allowance.saturating_mul(-DEBT_MAX));
        if account.credit >= 0 {
            return None;
        }
        account.is_proven = false;
        account.credit -= nanoseconds(WAIT_COST);
        let debt = i128::from(account.credit.unsigned_abs());
        let wait = debt * i128::from(nanoseconds(PERIOD)) / i128::from(allowance);
        let wait = Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX));
        Some(wait.clamp(WAIT_MIN, WAIT_MAX))
    }

    /// A message of the client was accepted: it owes nothing.
    pub(super) fn settle(&mut self, slot: u32, allowance: Duration) {
        if let Some(account) = self.of(slot) {
            account.credit = nanoseconds(allowance);
            account.is_proven = true;
        }
    }

    fn of(&mut self, slot: u32) -> Option<&mut Account> {
        let id = self.of_connection[slot as usize]?;
        Some(&mut self.accounts[id.get() as usize - 1])
    }

    /// A place for a new account: a new one, or that of a client without connections. `None`: none is found.
    fn open(&mut self, account: Account) -> Option<AccountId> {
        let client = account.client;
        let index = if self.accounts.len() < ACCOUNTS_MAX {
            self.accounts.push(account);
            self.accounts.len() - 1
        } else {
            let found = (0..LOOKS_MAX).map(|step| (self.hand + step) % ACCOUNTS_MAX);
            let index = found.into_iter().find(|index| self.accounts[*index].connections == 0);
            self.hand = (index.unwrap_or(self.hand + LOOKS_MAX) + 1) % ACCOUNTS_MAX;
            let index = index?;
            let closed = std::mem::replace(&mut self.accounts[index], account);
            self.by_client.remove(&closed.client);
            index
        };
        let id = AccountId::new(u32::try_from(index).ok()? + 1)?;
        self.by_client.insert(client, id);
        Some(id)
    }
}

/// Addresses of one client have the same.
fn key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// In which the allowance is paid for by waiting.
const PERIOD: Duration = Duration::from_secs(60);
/// Shorter waits would cost more than they hold back.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Shorter than any client's patience (RFC 5321 §4.5.3.2 begins at two minutes).
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Allowances that a client owes at most, so that an old debt ends.
const DEBT_MAX: i64 = 10;
/// Clients with an account at once: 64 octets each, and as much in the table that finds them.
const ACCOUNTS_MAX: usize = 65_536;
/// Accounts that are looked at for one that may be closed.
const LOOKS_MAX: usize = 64;

/// A connection, from accept to close.
pub(super) const CONNECTION_COST: Duration = Duration::from_micros(50);

/// To leave a connection waiting and to come back to it.
const WAIT_COST: Duration = Duration::from_micros(10);

/// A receive of so many octets, and what follows from it.
pub(super) const fn receive_cost(octets: usize) -> Duration {
    Duration::from_nanos(2_000 + octets as u64 / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Duration = Duration::from_millis(10);

    fn at(seconds: u64) -> Instant {
        Instant::default().after(Duration::from_secs(seconds))
    }

    fn connect(accounts: &mut Accounts, slot: u32, client: &str) -> u32 {
        accounts.connect(slot, client.parse().unwrap(), ALLOWANCE, at(0))
    }

    #[test]
    fn a_client_that_owes_waits_until_it_is_paid() {
        let mut accounts = Accounts::new(1);
        connect(&mut accounts, 0, "192.0.2.1");
        let mut charge =
            |milliseconds, now| accounts.charge(0, Duration::from_millis(milliseconds), ALLOWANCE, at(now));
        assert_eq!(charge(10, 0), None);
        let almost = |wait: Option<Duration>, seconds: u64| {
            let over = wait.unwrap().checked_sub(Duration::from_secs(seconds)).unwrap();
            assert!(over < Duration::from_millis(200), "{over:?} for what waiting costs");
        };
        almost(charge(5, 0), 30);
        almost(charge(0, 15), 15);
        assert_eq!(charge(0, 31), None);
        assert_eq!(charge(1000, 31), Some(WAIT_MAX));
        assert_eq!(charge(0, 31 + 601), None, "more than ten allowances are not remembered");
        assert_eq!(charge(10, 100_000), None, "credit beyond the allowance is not kept");
        assert!(charge(1, 100_000).is_some());
    }

    #[test]
    fn an_accepted_message_settles() {
        let mut accounts = Accounts::new(1);
        connect(&mut accounts, 0, "192.0.2.1");
        assert!(accounts.charge(0, Duration::from_secs(5), ALLOWANCE, at(0)).is_some());
        accounts.settle(0, ALLOWANCE);
        assert_eq!(accounts.charge(0, ALLOWANCE, ALLOWANCE, at(0)), None);
    }

    #[test]
    fn connections_of_a_client_are_counted_together() {
        let mut accounts = Accounts::new(8);
        assert_eq!(connect(&mut accounts, 0, "192.0.2.1"), 1);
        assert_eq!(connect(&mut accounts, 1, "::ffff:192.0.2.1"), 2);
        assert_eq!(connect(&mut accounts, 2, "192.0.2.2"), 1);
        assert_eq!(connect(&mut accounts, 3, "2001:db8::1"), 1);
        assert_eq!(connect(&mut accounts, 4, "2001:db8::ffff:2"), 2);
        assert_eq!(connect(&mut accounts, 5, "2001:db8:0:1::1"), 1);
        accounts.disconnect(0);
        accounts.disconnect(7);
        assert_eq!(connect(&mut accounts, 6, "192.0.2.1"), 2);
    }

    #[test]
    fn the_table_is_bounded_and_debts_outlive_connections() {
        let clients = u32::try_from(ACCOUNTS_MAX).unwrap();
        let mut accounts = Accounts::new(ACCOUNTS_MAX + 2);
        let client = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        for number in 0..clients {
            accounts.connect(number, client(number), ALLOWANCE, at(0));
        }
        assert_eq!(accounts.connect(clients, client(1 << 20), ALLOWANCE, at(0)), 1);
        assert!(!accounts.has(clients) && accounts.has(0));
        assert_eq!(accounts.charge(clients, ALLOWANCE * 2, ALLOWANCE, at(0)), None);
        accounts.disconnect(clients);
        for number in 0..clients {
            assert!(accounts.charge(number, ALLOWANCE * 2, ALLOWANCE, at(0)).is_some());
            accounts.disconnect(number);
        }
        // A place is found again, and who comes back before it is needed still owes.
        assert_eq!(accounts.connect(0, client(1 << 20), ALLOWANCE, at(0)), 1);
        assert!(accounts.has(0));
        accounts.connect(1, client(60_000), ALLOWANCE, at(0));
        assert!(accounts.charge(1, Duration::ZERO, ALLOWANCE, at(0)).is_some());
        assert_eq!((accounts.accounts.len(), accounts.by_client.len()), (ACCOUNTS_MAX, ACCOUNTS_MAX));
    }
}
