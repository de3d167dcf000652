//! How a client says what its script has, and sends content.

use std::time::Duration;

use mailrace_io::sim::Peer;

use super::act::{Act, Chunk, Content, End, Ending, Wire, Word, Words};
use super::expected::{Expected, OK};
use super::{Client, ONE_LINE};
use crate::simulation::ledger::Ledger;

impl Client {
    pub(super) fn begin_content(
        &mut self,
        peer: &Peer,
        ledger: &mut Ledger,
        content: Content,
        silence: Option<(usize, Duration)>,
    ) {
        let mut octets = Vec::new();
        self.session.content(&content.wire, &mut octets);
        let place = match content.ending {
            Ending::None => None,
            Ending::Dot => {
                self.session.end_of_data(&mut octets);
                Some(octets.len())
            }
            Ending::Within(place) => Some(place),
        };
        let mut wire =
            Wire { octets, end: place.map(|place| End { number: content.number, place, total: None }) };
        if let Some((place, time)) = silence
            && wire.end.is_none_or(|end| end.place > place)
        {
            let octets = wire.octets.split_off(place);
            let end = wire.end.take().map(|end| End { place: end.place - place, ..end });
            self.acts.push_front(Act::Rest(Wire { octets, end }));
            self.acts.push_front(Act::Pause(time));
        }
        self.send_ending(peer, ledger, &wire);
    }

    /// Sends bytes in which a message may end.
    pub(super) fn send_ending(&mut self, peer: &Peer, ledger: &mut Ledger, Wire { octets, end }: &Wire) {
        if let Some(End { number, total, .. }) = *end {
            self.expect(Expected::Verdict(number, total));
        }
        let sent = self.send(peer, octets);
        if let Some(End { number, place, .. }) = *end {
            if sent >= place {
                ledger.sent(number);
            }
            self.is_loose |= place < octets.len();
        }
    }

    /// Says these; one that may not follow those before it waits for their replies, with all after it.
    pub(super) fn say(&mut self, peer: &Peer, ledger: &mut Ledger, mut words: Words) {
        let mut octets = Vec::new();
        let mut ends = Vec::new();
        while let Some(word) = words.pop_front() {
            let is_nonsense = matches!(word, Word::Nonsense(..));
            if !is_nonsense && !self.session.may_send() {
                if self.is_loose {
                    // After a lie the dialogue is out of step.
                    self.acts.clear();
                    break;
                }
                words.push_front(word);
                self.acts.push_front(Act::Say(words));
                self.acts.push_front(Act::Await);
                break;
            }
            ends.extend(self.append(word, ledger, &mut octets));
        }
        let sent = self.send(peer, &octets);
        for End { number, place, .. } in ends {
            if sent >= place {
                ledger.sent(number);
            }
        }
    }

    /// Appends a word to what is sent, and expects its reply; where a message ends in it.
    fn append(&mut self, word: Word, ledger: &Ledger, octets: &mut Vec<u8>) -> Option<End> {
        match word {
            Word::Mail(number) => {
                let message = ledger.message(number);
                let (path, parameters) = (message.sender.as_bytes(), message.parameters());
                self.session.mail(path, parameters.as_bytes(), octets).expect(ONE_LINE);
                self.expect(Expected::Mail(number));
            }
            Word::Recipient(number, index) => {
                let recipient = &ledger.message(number).recipients[index];
                let (path, parameters) = (recipient.address.as_bytes(), recipient.parameters());
                self.session.rcpt(path, parameters.as_bytes(), octets).expect(ONE_LINE);
                self.expect(Expected::Recipient(number, index));
            }
            Word::Data => {
                self.session.data(octets);
                self.expect(Expected::Permission);
            }
            Word::Chunk(chunk) => return self.append_chunk(&chunk, octets),
            Word::Reset => {
                self.session.reset(octets);
                self.expect(Expected::Positive(OK));
            }
            Word::Quit => {
                self.session.quit(octets);
                self.expect(Expected::Positive("221 2.0.0 Bye"));
            }
            Word::Other(line, expected) => {
                self.session.other(line.as_bytes(), octets).expect(ONE_LINE);
                self.expect(expected);
            }
            Word::Nonsense(nonsense, end) => {
                self.is_loose |= end.is_none_or(|end| end.place < nonsense.len());
                let start = octets.len();
                octets.extend_from_slice(&nonsense);
                let end = end.map(|end| End { place: start + end.place, ..end })?;
                self.expect(Expected::Verdict(end.number, end.total));
                return Some(end);
            }
        }
        None
    }

    fn append_chunk(
        &mut self,
        Chunk { number, octets: chunk, total }: &Chunk,
        octets: &mut Vec<u8>,
    ) -> Option<End> {
        self.session.bdat(chunk.len() as u64, total.is_some(), octets);
        self.session.content(chunk, octets);
        let (number, total) = (*number, *total);
        self.expect(match total {
            Some(_) => Expected::Verdict(number, total),
            None => Expected::Chunk(number, chunk.len()),
        });
        total.map(|_| End { number, place: octets.len(), total })
    }

    /// Sends, unless it goes away at one of these bytes; returns how many were sent.
    pub(super) fn send(&mut self, peer: &Peer, octets: &[u8]) -> usize {
        let size = self.octets_left.map_or(octets.len(), |left| left.min(octets.len()));
        peer.send(&octets[..size]);
        if let Some(left) = self.octets_left.as_mut() {
            *left -= size;
            if *left == 0 {
                self.leave(peer);
                self.acts.clear();
                self.expect_the_end();
            }
        }
        size
    }
}
