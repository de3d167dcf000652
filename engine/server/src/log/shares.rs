//! Which lines about clients get in while standard error takes too little: a client's may hold a multiple of the room that
//! is left, as a network and in it as a client.
//!
//! What one that writes without end holds settles where most of the room is used up and some is left, whose lines come
//! first; all others' lines fit into the rest. Nothing has to be taken back, and no search is needed. (Buffers of
//! switches are shared so: dynamic thresholds, Choudhury and Hahne 1998.) Lines about accepted mail and those about anything
//! else are held apart, so that refusals never keep a line about mail out.

use std::collections::{HashMap, VecDeque};

use mailrace_core::Sharer;

/// Times the room that is left which a network may hold; of what it has left, a client of it the same.
const GREED: usize = 2;
/// Memory that it takes to remember whose some lines are, at most; it counts as theirs.
const SPAN_SIZE: usize = 128;

/// What lines of one writer hold that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Shares {
    networks: HashMap<(u128, bool), usize>,
    clients: HashMap<Holder, usize>,
    /// Lines that were handed over, the oldest first.
    waiting: VecDeque<Span>,
    /// Lines that were not yet.
    gathered: Vec<Span>,
    /// What was released since the start.
    released: u64,
}

/// Whose lines are, and whether they are about mail that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    pub(super) sharer: Sharer,
    pub(super) is_mail: bool,
}

impl Holder {
    const fn network(self) -> (u128, bool) {
        (self.sharer.network, self.is_mail)
    }
}

/// Lines that follow on each other and are one holder's.
#[derive(Clone, Copy, Debug)]
struct Span {
    holder: Holder,
    /// With [`SPAN_SIZE`].
    size: usize,
}

impl Shares {
    /// Whether a line gets in where `room` is left.
    pub(super) fn admits(&self, holder: Holder, size: usize, room: usize) -> bool {
        let size = size + SPAN_SIZE;
        let network = self.networks.get(&holder.network()).copied().unwrap_or(0);
        let client = self.clients.get(&holder).copied().unwrap_or(0);
        let network_max = room.saturating_mul(GREED);
        let client_max = network_max.saturating_sub(network).saturating_mul(GREED);
        size <= room && network + size <= network_max && client + size <= client_max
    }

    /// Notes that a line got in.
    pub(super) fn hold(&mut self, holder: Holder, size: usize) {
        let size = match self.gathered.last_mut() {
            Some(last) if last.holder == holder => {
                last.size += size;
                size
            }
            _ => {
                let size = size + SPAN_SIZE;
                self.gathered.push(Span { holder, size });
                size
            }
        };
        *self.networks.entry(holder.network()).or_default() += size;
        *self.clients.entry(holder).or_default() += size;
    }

    /// What the lines that are gathered hold, and how much of that is for remembering whose they are.
    pub(super) fn gathered(&self) -> (usize, usize) {
        (self.gathered.iter().map(|span| span.size).sum(), self.gathered.len() * SPAN_SIZE)
    }

    /// The lines that were gathered wait now; or they are lost.
    pub(super) fn handed_over(&mut self, is_taken: bool) {
        if is_taken {
            self.waiting.extend(self.gathered.drain(..));
            return;
        }
        for span in std::mem::take(&mut self.gathered) {
            self.forget(span);
        }
    }

    /// Bytes written since start, of those that waited.
    pub(super) fn release(&mut self, written: u64) {
        while let Some(span) = self.waiting.front_mut() {
            let left = usize::try_from(written.saturating_sub(self.released)).unwrap_or(usize::MAX);
            if left == 0 {
                return;
            }
            let size = span.size.min(left);
            span.size -= size;
            let part = Span { holder: span.holder, size };
            if span.size == 0 {
                self.waiting.pop_front();
            }
            self.released += size as u64;
            self.forget(part);
        }
        if self.gathered.is_empty() {
            // A shortage is over: its memory is given back.
            self.waiting = VecDeque::new();
            self.networks = HashMap::new();
            self.clients = HashMap::new();
        }
    }

    fn forget(&mut self, Span { holder, size }: Span) {
        lessen(&mut self.networks, holder.network(), size);
        lessen(&mut self.clients, holder, size);
    }
}

/// Removes the entry of one that holds nothing any longer.
fn lessen<K: Eq + std::hash::Hash>(held: &mut HashMap<K, usize>, key: K, size: usize) {
    if let Some(left) = held.get_mut(&key) {
        *left -= size;
        if *left == 0 {
            held.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 100_000;
    const LINE: usize = 100;

    /// A log of which nothing is written.
    #[derive(Default)]
    struct Full {
        shares: Shares,
        used: usize,
    }

    impl Full {
        /// Writes lines until none gets in; how many did.
        fn fill(&mut self, network: u128, client: u128, lines_max: usize) -> usize {
            let holder = Holder { sharer: Sharer { network, client }, is_mail: false };
            (0..lines_max)
                .take_while(|_| {
                    let is_admitted = self.shares.admits(holder, LINE, ROOM - self.used);
                    if is_admitted {
                        self.shares.hold(holder, LINE);
                        self.used += LINE;
                    }
                    is_admitted
                })
                .count()
        }
    }

    #[test]
    fn a_client_that_floods_the_log_leaves_room_for_others() {
        let mut full = Full::default();
        let greedy = full.fill(1, 1, usize::MAX) * LINE;
        assert!(greedy > ROOM / 2, "{greedy}: alone it has most of the room");
        assert_eq!(full.fill(2, 2, 50), 50);
        assert_eq!(full.fill(1, 3, 5), 5, "another client of its network");
        assert_eq!(full.fill(1, 1, 1), 0);
    }

    #[test]
    fn many_clients_in_a_network_share_its_part() {
        let mut full = Full::default();
        (0..1000).for_each(|client| _ = full.fill(1, client, usize::MAX));
        assert!(full.used <= ROOM * 2 / 3, "{}", full.used);
        assert_eq!(full.fill(2, 2, 50), 50);
        // Of several networks each leaves room.
        (10..15).for_each(|network| _ = full.fill(network, network, usize::MAX));
        assert_eq!(full.fill(3, 3, 1), 1);
    }

    #[test]
    fn written_and_lost_lines_release_their_memory() {
        let mut full = Full::default();
        full.fill(1, 1, 30);
        full.fill(2, 2, 10);
        assert_eq!(full.shares.gathered(), (40 * LINE + 2 * SPAN_SIZE, 2 * SPAN_SIZE));
        full.shares.handed_over(true);
        full.fill(1, 1, 5);
        full.shares.handed_over(false);
        let (first, second) = (30 * LINE + SPAN_SIZE, 10 * LINE + SPAN_SIZE);
        full.shares.release(1000);
        assert_eq!(full.shares.networks, HashMap::from([((1, false), first - 1000), ((2, false), second)]));
        full.shares.release((first + second) as u64);
        assert!(full.shares.networks.is_empty() && full.shares.clients.is_empty());
        assert!(full.shares.waiting.is_empty());
        full.fill(1, 1, 3);
        full.shares.handed_over(true);
        full.shares.release((first + second + LINE) as u64);
        assert_eq!(full.shares.networks, HashMap::from([((1, false), 2 * LINE + SPAN_SIZE)]));
    }
}
