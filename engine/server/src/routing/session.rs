//! What sessions ask of routing: which addresses have a route that leads nowhere.

use bumpalo::Bump;
use mailrace_core::lookup::{Asker, LookupError, Maps};
use mailrace_core::smtp::{DeadEnd, Routes};

use super::{ERROR, RETRY, Resolver, split_status};

impl Resolver {
    /// Returns whether any route may lead nowhere, as far as is known without searching tables.
    pub(crate) fn may_lead_nowhere(&self) -> bool {
        let ways = [&self.local, &self.virtual_mailbox, &self.relay, &self.other];
        let tables = [&self.tables.transport, &self.tables.sender_transport];
        ways.into_iter().any(|way| matches!(&*way.transport, ERROR | RETRY))
            || !tables.into_iter().all(Maps::is_empty)
    }
}

impl Routes for Resolver {
    fn dead_end<'a>(
        &self,
        arena: &'a Bump,
        sender: &[u8],
        address: &[u8],
        asker: Asker<'_>,
    ) -> Result<Option<DeadEnd<'a>>, LookupError> {
        let way = self.resolve(sender, address, asker, &mut |_| {})?.way;
        let is_temporary = match &*way.transport {
            ERROR => false,
            RETRY => true,
            _ => return Ok(None),
        };
        let (status, text) = split_status(&way.next_hop);
        Ok(Some(DeadEnd { is_temporary, status, text: arena.alloc_str(text).as_bytes() }))
    }

    fn may_wait(&self) -> bool {
        let tables = [&self.tables.transport, &self.tables.sender_transport, &self.tables.sender_relayhost];
        self.destinations.may_wait() || tables.into_iter().any(Maps::may_wait)
    }
}

#[cfg(test)]
mod tests;
