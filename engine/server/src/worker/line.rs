//! Turns of connections or messages that wait for the same thing: networks in turn, clients within each, and within each
//! its own, so that a client waits for at most one of each other client, however many those have.

use std::collections::{HashMap, VecDeque};

/// A line. An entry that has ended stays in it, and the caller skips it.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// The first of all: it had its turn and found too little room.
    first: Option<T>,
    /// Networks that have clients in line, the next one first.
    networks: VecDeque<u32>,
    /// Clients of each network that are in line, the next one first.
    clients: HashMap<u32, VecDeque<u32>>,
    members: HashMap<u32, VecDeque<T>>,
    /// Number of those in line.
    len: usize,
    /// Emptied memory, for the next ones.
    spare_clients: Vec<VecDeque<u32>>,
    spare_members: Vec<VecDeque<T>>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            first: None,
            networks: VecDeque::new(),
            clients: HashMap::new(),
            members: HashMap::new(),
            len: 0,
            spare_clients: Vec::new(),
            spare_members: Vec::new(),
        }
    }
}

impl<T> Line<T> {
    /// Puts an entry at the end of its client's line.
    pub(super) fn push(&mut self, (network, client): (u32, u32), waiting: T) {
        let members = self.members.entry(client).or_insert_with(|| {
            let clients = self.clients.entry(network).or_insert_with(|| {
                self.networks.push_back(network);
                self.spare_clients.pop().unwrap_or_default()
            });
            clients.push_back(client);
            self.spare_members.pop().unwrap_or_default()
        });
        members.push_back(waiting);
        self.len += 1;
    }

    /// Puts an entry before all others.
    pub(super) fn push_first(&mut self, waiting: T) {
        assert!(self.first.is_none(), "one at a time has its turn");
        self.first = Some(waiting);
        self.len += 1;
    }

    /// Whether an entry has had its turn and found too little room.
    pub(super) const fn has_first(&self) -> bool {
        self.first.is_some()
    }

    /// Takes the entry whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        if let Some(first) = self.first.take() {
            self.len -= 1;
            return Some(first);
        }
        let network = self.networks.pop_front()?;
        self.len -= 1;
        let clients = self.clients.get_mut(&network).expect("a network in line has clients");
        let client = clients.pop_front().expect("a network in line has clients");
        let members = self.members.get_mut(&client).expect("a client in line has somebody waiting");
        let next = members.pop_front().expect("a client in line has somebody waiting");
        if members.is_empty() {
            self.spare_members.extend(self.members.remove(&client));
        } else {
            clients.push_back(client);
        }
        if clients.is_empty() {
            self.spare_clients.extend(self.clients.remove(&network));
        } else {
            self.networks.push_back(network);
        }
        Some(next)
    }

    /// Number of entries, including those that have ended.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_take_turns_and_in_them_clients() {
        let mut line = Line::default();
        for slot in 0..4 {
            line.push((1, 10), slot);
        }
        line.push((1, 11), 4);
        line.push((2, 20), 5);
        line.push((2, 20), 6);
        assert_eq!(line.len(), 7);
        let slots: Vec<u32> = std::iter::from_fn(|| line.pop()).collect();
        assert_eq!(slots, [0, 5, 4, 6, 1, 2, 3]);
        assert!(line.is_empty() && line.networks.is_empty());
        assert!(line.clients.is_empty() && line.members.is_empty());
    }

    #[test]
    fn what_found_too_little_comes_first() {
        let mut line = Line::default();
        line.push((1, 1), 1);
        line.push((2, 2), 2);
        let first = line.pop().unwrap();
        line.push_first(first);
        assert!(line.has_first());
        assert_eq!(line.pop(), Some(1));
        assert_eq!(line.pop(), Some(2));
        assert_eq!(line.pop(), None);
    }
}
