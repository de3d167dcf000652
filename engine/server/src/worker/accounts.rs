//! Accounts of clients and networks: what each holds, and what it owes.
//!
//! Clients and networks are those of [`Sharer`]. A client whose address may be that of a proxy
//! (`smtpd_client_event_limit_exceptions`, this machine) does not identify the sender: each of its connections is a client
//! and a network of its own, and never owes.
//!
//! **What it holds**: slots of the connection table, memory, and content in the spool of unfinished messages.
//! When one of these runs short, [`Accounts`] tells whose share is exceeded: first a network's, within it a client's.
//!
//! **What it owes**: the work that it causes is charged to it, and an accepted message settles its account. A client may
//! take `client_allowance` of a worker's time per minute without an accepted message. Beyond that, nothing is read from it
//! until it has paid the debt by waiting. A client whose mail is accepted never waits; one that only connects,
//! talks, floods or sends refused mail slows down to the allowance, however many connections it has.
//!
//! Constants estimate the cost of work, so that a replay has the same costs. The number of accounts is
//! bounded: when the table is full, a newcomer replaces a client without connections, of the network with
//! the most accounts among those examined.

mod table;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use mailrace_core::Sharer;
use mailrace_io::Instant;

use super::shares::Tally;
use table::Table;

/// The accounts of a worker's clients. Connections are named by their slots.
#[derive(Debug)]
pub(super) struct Accounts {
    places: Vec<Place>,
    by_client: HashMap<u128, AccountId>,
    accounts: Table<Account>,
    by_network: HashMap<u128, NetworkId>,
    networks: Table<Network>,
    accounts_max: usize,
    /// Place of the next account to examine for closing.
    hand: usize,
    /// Memory of all networks.
    memory: Tally,
    /// Share of it beyond which a network is greedy.
    memory_share: u64,
    /// Content in the spool of unfinished messages, of all networks.
    content: Tally,
    content_share: u64,
}

/// The index of an account plus one, so that an account or none takes four bytes.
type AccountId = NonZeroU32;
type NetworkId = NonZeroU32;

/// State of the connection in a slot.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// `None`: no connection.
    account: Option<AccountId>,
    /// It counts as one of its client's connections, and its work is charged to the client.
    is_counted: bool,
    /// It waits until its client has paid: nothing is read from it.
    is_waiting: bool,
    memory: u64,
    content: u64,
}

#[derive(Debug)]
struct Account {
    client: u128,
    network: NetworkId,
    /// Its work is charged to it, and its address finds it again.
    is_charged: bool,
    /// Connections that count for `smtpd_client_connection_count_limit`.
    connections: u32,
    /// Slots of the connection table, including connections about to be refused.
    slots: u32,
    /// Bytes of memory.
    memory: u64,
    /// Bytes of unfinished content in the spool.
    content: u64,
    /// Remaining allowance in nanoseconds; a negative value is a debt.
    credit: i64,
    /// A message from it was accepted, and it has not owed since.
    is_proven: bool,
    /// Time up to which waiting was credited.
    paid_until: Instant,
}

#[derive(Debug, Default)]
struct Network {
    key: u128,
    accounts: u32,
    slots: u32,
    memory: u64,
    /// Clients that hold memory.
    memory_holders: u32,
    content: u64,
    content_holders: u32,
}

impl Accounts {
    /// Returns accounts for a connection table of `slots` slots.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            places: vec![Place::default(); slots],
            by_client: HashMap::new(),
            accounts: Table::default(),
            by_network: HashMap::new(),
            networks: Table::default(),
            // At least half of the accounts have no connections, so one of those is found soon.
            accounts_max: ACCOUNTS_MAX.max(2 * slots),
            hand: 0,
            memory: Tally::default(),
            memory_share: u64::MAX,
            content: Tally::default(),
            content_share: u64::MAX,
        }
    }

    /// Opens a connection of a client; returns the client's number of connections. `is_charged`: the address is that of one
    /// client, to which work can be charged.
    pub(super) fn connect(
        &mut self,
        slot: u32,
        client: IpAddr,
        is_charged: bool,
        allowance: Duration,
        now: Instant,
    ) -> u32 {
        let sharer = if is_charged { Sharer::of_client(client) } else { Sharer::default() };
        let known = if is_charged { self.by_client.get(&sharer.client).copied() } else { None };
        let id = known.unwrap_or_else(|| self.open(sharer, is_charged, allowance, now));
        self.places[slot as usize] = Place { account: Some(id), is_counted: true, ..Place::default() };
        let account = self.accounts.get_mut(id);
        account.slots += 1;
        account.connections += 1;
        let (network, connections) = (account.network, account.connections);
        self.networks.get_mut(network).slots += 1;
        connections
    }

    /// A connection ended.
    pub(super) fn disconnect(&mut self, slot: u32) {
        self.hold(slot, 0, 0);
        self.leave(slot);
        let Some(id) = std::mem::take(&mut self.places[slot as usize]).account else { return };
        let account = self.accounts.get_mut(id);
        account.slots -= 1;
        let (network, is_over) = (account.network, !account.is_charged);
        self.networks.get_mut(network).slots -= 1;
        if is_over {
            self.close(id);
        }
    }

    /// Stops counting and charging the connection; if it waits, it continues to wait. It still takes
    /// a slot.
    pub(super) fn leave(&mut self, slot: u32) {
        let place = &mut self.places[slot as usize];
        if std::mem::take(&mut place.is_counted)
            && let Some(id) = place.account
        {
            self.accounts.get_mut(id).connections -= 1;
        }
    }

    /// Whether the connection waits.
    pub(super) fn is_waiting(&self, slot: u32) -> bool {
        self.places[slot as usize].is_waiting
    }

    /// Connections of which an account knows.
    pub(super) fn connected(&self) -> usize {
        let slots: usize = self.accounts.iter().map(|account| account.slots as usize).sum();
        slots.max(self.places.iter().filter(|place| place.account.is_some()).count())
    }

    /// Sets whether the connection waits; returns what it did before.
    pub(super) fn set_waiting(&mut self, slot: u32, is_waiting: bool) -> bool {
        std::mem::replace(&mut self.places[slot as usize].is_waiting, is_waiting)
    }

    /// Whether the work of the connection is charged to a client.
    pub(super) fn has(&self, slot: u32) -> bool {
        self.charged(slot).is_some()
    }

    /// Whether its client has yet to show that it sends mail: its connections are read in small pieces, so that none
    /// brings more than it is charged for before it can be made to wait.
    pub(super) fn is_unproven(&self, slot: u32) -> bool {
        self.charged(slot).is_some_and(|id| !self.accounts.get(id).is_proven)
    }

    /// Charges `cost` to the client; if it owes, returns how long it must not be read from.
    pub(super) fn charge(
        &mut self,
        slot: u32,
        cost: Duration,
        allowance: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let account = self.accounts.get_mut(self.charged(slot)?);
        let allowance = nanoseconds(allowance);
        if allowance == 0 {
            return None;
        }
        let waited = nanoseconds(now.since(account.paid_until));
        account.paid_until = now;
        // Waiting for a minute pays for the whole allowance.
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

    /// A message from the client was accepted, which settles its debt.
    pub(super) fn settle(&mut self, slot: u32, allowance: Duration) {
        if let Some(id) = self.charged(slot) {
            let account = self.accounts.get_mut(id);
            account.credit = nanoseconds(allowance);
            account.is_proven = true;
        }
    }

    fn charged(&self, slot: u32) -> Option<AccountId> {
        let place = &self.places[slot as usize];
        place.account.filter(|id| place.is_counted && self.accounts.get(*id).is_charged)
    }
}

/// What clients hold.
impl Accounts {
    /// Notes what the connection holds: bytes of memory, and bytes in the spool of an unfinished message.
    pub(super) fn hold(&mut self, slot: u32, memory: u64, content: u64) {
        let place = &mut self.places[slot as usize];
        let (memory_before, content_before) = (place.memory, place.content);
        if (memory_before, content_before) == (memory, content) {
            return;
        }
        let Some(id) = place.account else { return };
        (place.memory, place.content) = (memory, content);
        let account = self.accounts.get_mut(id);
        let network = self.networks.get_mut(account.network);
        let [held, before] = [&mut account.memory, &mut network.memory];
        change(held, &mut network.memory_holders, before, &mut self.memory, memory_before, memory);
        let [held, before] = [&mut account.content, &mut network.content];
        change(held, &mut network.content_holders, before, &mut self.content, content_before, content);
    }

    /// Bytes of memory that all connections hold.
    pub(super) const fn memory(&self) -> u64 {
        self.memory.total()
    }

    /// Bytes in the spool of unfinished messages.
    pub(super) const fn content(&self) -> u64 {
        self.content.total()
    }

    /// Bytes that the connection holds.
    pub(super) fn memory_of(&self, slot: u32) -> u64 {
        self.places[slot as usize].memory
    }

    /// Bytes that the unfinished message of the connection has in the spool.
    pub(super) fn content_of(&self, slot: u32) -> u64 {
        self.places[slot as usize].content
    }

    /// Finds the shares of memory and of unfinished content that keep the totals within these limits.
    pub(super) fn set_targets(&mut self, memory: u64, content: u64) {
        self.memory_share = self.memory.fair_share(memory);
        self.content_share = self.content.fair_share(content);
    }

    /// Whether the network of the connection holds more than its share of memory, and the client more than its share of
    /// that. Never while there is no shortage.
    pub(super) fn exceeds_memory(&self, slot: u32) -> bool {
        self.memory_share < u64::MAX
            && self.both(slot).is_some_and(|(account, network)| {
                exceeds(self.memory_share, network.memory, network.memory_holders, account.memory)
            })
    }

    /// The same of unfinished content in the spool.
    pub(super) fn exceeds_content(&self, slot: u32) -> bool {
        self.content_share < u64::MAX
            && self.both(slot).is_some_and(|(account, network)| {
                exceeds(self.content_share, network.content, network.content_holders, account.content)
            })
    }

    /// Order in which memory is reclaimed, greatest first.
    pub(super) fn greed_for_memory(&self, slot: u32) -> [u64; 3] {
        let of_others = self.both(slot).map(|(account, network)| [network.memory, account.memory]);
        let [network, client] = of_others.unwrap_or_default();
        [network, client, self.memory_of(slot)]
    }

    /// The same of unfinished content in the spool.
    pub(super) fn greed_for_content(&self, slot: u32) -> [u64; 3] {
        let of_others = self.both(slot).map(|(account, network)| [network.content, account.content]);
        let [network, client] = of_others.unwrap_or_default();
        [network, client, self.content_of(slot)]
    }

    /// Slots of the connection table that the connection's network has, and its client.
    pub(super) fn slots(&self, slot: u32) -> (u32, u32) {
        self.both(slot).map(|(account, network)| (network.slots, account.slots)).unwrap_or_default()
    }

    /// Returns network and client of the connection, for comparison with others.
    pub(super) fn names(&self, slot: u32) -> Option<(u32, u32)> {
        let id = self.places[slot as usize].account?;
        Some((self.accounts.get(id).network.get(), id.get()))
    }

    fn both(&self, slot: u32) -> Option<(&Account, &Network)> {
        let account = self.accounts.get(self.places[slot as usize].account?);
        Some((account, self.networks.get(account.network)))
    }
}

/// Changes a connection's part from `before` to `after` in the totals of its client, its network, and all.
fn change(client: &mut u64, holders: &mut u32, network: &mut u64, all: &mut Tally, before: u64, after: u64) {
    let (client_before, network_before) = (*client, *network);
    *client = client_before - before + after;
    *network = network_before - before + after;
    *holders = *holders - u32::from(client_before > 0) + u32::from(*client > 0);
    all.change(network_before, *network);
}

/// Whether a client exceeds its part of `share` in a network that exceeds it: an equal one for each that holds anything.
const fn exceeds(share: u64, network: u64, holders: u32, client: u64) -> bool {
    network > share && client > share / if holders == 0 { 1 } else { holders as u64 }
}

/// Opening and closing accounts.
impl Accounts {
    fn open(&mut self, sharer: Sharer, is_charged: bool, allowance: Duration, now: Instant) -> AccountId {
        let Sharer { network: key, client } = sharer;
        if self.accounts.len() >= self.accounts_max {
            self.close_one();
        }
        let known = if is_charged { self.by_network.get(&key).copied() } else { None };
        let network = known.unwrap_or_else(|| {
            let id = self.networks.insert(Network { key, ..Network::default() });
            if is_charged {
                self.by_network.insert(key, id);
            }
            id
        });
        self.networks.get_mut(network).accounts += 1;
        let id = self.accounts.insert(Account {
            client,
            network,
            is_charged,
            connections: 0,
            slots: 0,
            memory: 0,
            content: 0,
            credit: nanoseconds(allowance),
            is_proven: false,
            paid_until: now,
        });
        if is_charged {
            self.by_client.insert(client, id);
        }
        id
    }

    /// Closes the account of a client without connections: of those examined, one of the network with the
    /// most accounts.
    fn close_one(&mut self) {
        let places = self.accounts.places();
        let mut looks = 0;
        let mut found: Option<(u32, AccountId)> = None;
        for step in 0..places {
            looks += 1;
            if looks > LOOKS_MAX && found.is_some() {
                break;
            }
            let index = (self.hand + step) % places;
            let Some((id, account)) = self.accounts.at(index).filter(|(_, account)| account.slots == 0)
            else {
                continue;
            };
            let siblings = self.networks.get(account.network).accounts;
            if found.is_none_or(|(most, _)| siblings > most) {
                found = Some((siblings, id));
            }
        }
        self.hand = (self.hand + looks) % places;
        let (_, id) = found.expect("there are more accounts than connections");
        self.close(id);
    }

    /// Closes an account that is no longer referenced.
    fn close(&mut self, id: AccountId) {
        let account = self.accounts.take(id);
        if account.is_charged {
            self.by_client.remove(&account.client);
        }
        let network = self.networks.get_mut(account.network);
        network.accounts -= 1;
        if network.accounts == 0 {
            let network = self.networks.take(account.network);
            if account.is_charged {
                self.by_network.remove(&network.key);
            }
        }
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Time in which waiting pays for the whole allowance.
const PERIOD: Duration = Duration::from_secs(60);
/// Shortest wait; shorter ones would cost more than they save.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait, shorter than any client's timeout (RFC 5321 §4.5.3.2: at least two minutes).
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Largest debt in allowances, so that an old debt ends.
const DEBT_MAX: i64 = 10;
/// Least number of accounts in the table: about 200 bytes each with the tables that find them.
const ACCOUNTS_MAX: usize = 65_536;
/// Accounts examined for the best one to close.
const LOOKS_MAX: usize = 64;

/// Cost of a connection, from accept to close.
pub(super) const CONNECTION_COST: Duration = Duration::from_micros(50);

/// Cost of suspending and resuming a connection.
const WAIT_COST: Duration = Duration::from_micros(10);

/// Cost of a receive of this many bytes and its consequences.
pub(super) const fn receive_cost(octets: usize) -> Duration {
    Duration::from_nanos(2_000 + octets as u64 / 2)
}

#[cfg(test)]
mod tests;
