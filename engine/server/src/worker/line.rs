//! Lets connections that wait for the same thing take turns: networks in turn, in each its clients, in each its
//! connections, so that a client waits for one connection of each other client at most, however many those have.

use std::collections::{HashMap, VecDeque};

use mailrace_io::ConnectionId;

/// Connections that wait in line. A connection that ends stays in it and is skipped by the caller.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Comes before all others: it had its turn and found too little.
    first: Option<ConnectionId>,
    /// Networks that have clients in line, the next one first.
    networks: VecDeque<u32>,
    /// Clients of each network that have connections in line, the next one first.
    clients: HashMap<u32, VecDeque<u32>>,
    connections: HashMap<u32, VecDeque<ConnectionId>>,
    /// Number of connections in line.
    len: usize,
    /// Emptied memory, for the next ones.
    spare_clients: Vec<VecDeque<u32>>,
    spare_connections: Vec<VecDeque<ConnectionId>>,
}

impl Line {
    /// Puts a connection of this network and client at the end of its client's.
    pub(super) fn push(&mut self, (network, client): (u32, u32), id: ConnectionId) {
        let connections = self.connections.entry(client).or_insert_with(|| {
            let clients = self.clients.entry(network).or_insert_with(|| {
                self.networks.push_back(network);
                self.spare_clients.pop().unwrap_or_default()
            });
            clients.push_back(client);
            self.spare_connections.pop().unwrap_or_default()
        });
        connections.push_back(id);
        self.len += 1;
    }

    /// Puts a connection before all others.
    pub(super) fn push_first(&mut self, id: ConnectionId) {
        assert!(self.first.is_none(), "one connection at a time has its turn");
        self.first = Some(id);
        self.len += 1;
    }

    /// Whether a connection is there that had its turn and found too little.
    pub(super) const fn has_first(&self) -> bool {
        self.first.is_some()
    }

    /// Takes the connection whose turn it is.
    pub(super) fn pop(&mut self) -> Option<ConnectionId> {
        if let Some(first) = self.first.take() {
            self.len -= 1;
            return Some(first);
        }
        let network = self.networks.pop_front()?;
        self.len -= 1;
        let clients = self.clients.get_mut(&network).expect("a network in line has clients");
        let client = clients.pop_front().expect("a network in line has clients");
        let connections = self.connections.get_mut(&client).expect("a client in line has connections");
        let id = connections.pop_front().expect("a client in line has connections");
        if connections.is_empty() {
            self.spare_connections.extend(self.connections.remove(&client));
        } else {
            clients.push_back(client);
        }
        if clients.is_empty() {
            self.spare_clients.extend(self.clients.remove(&network));
        } else {
            self.networks.push_back(network);
        }
        Some(id)
    }

    /// Number of connections in line, those that have ended among them.
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

    const fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 0 }
    }

    #[test]
    fn networks_take_turns_and_in_them_clients() {
        let mut line = Line::default();
        for slot in 0..4 {
            line.push((1, 10), id(slot));
        }
        line.push((1, 11), id(4));
        line.push((2, 20), id(5));
        line.push((2, 20), id(6));
        assert_eq!(line.len(), 7);
        let slots: Vec<u32> = std::iter::from_fn(|| line.pop()).map(|id| id.slot).collect();
        assert_eq!(slots, [0, 5, 4, 6, 1, 2, 3]);
        assert!(line.is_empty() && line.networks.is_empty());
        assert!(line.clients.is_empty() && line.connections.is_empty());
    }

    #[test]
    fn what_found_too_little_comes_first() {
        let mut line = Line::default();
        line.push((1, 1), id(1));
        line.push((2, 2), id(2));
        let first = line.pop().unwrap();
        line.push_first(first);
        assert!(line.has_first());
        assert_eq!(line.pop(), Some(id(1)));
        assert_eq!(line.pop(), Some(id(2)));
        assert_eq!(line.pop(), None);
    }
}
