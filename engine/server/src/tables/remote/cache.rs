//! Owns what is remembered of a remote table's answers, in bounded memory.

use std::collections::HashMap;
use std::time::Instant;

use mailrace_core::lookup::Ticket;

/// A value, none, or that there was no answer.
type Value = Result<Option<Box<[u8]>>, ()>;

/// Answers, and questions under way.
///
/// Two generations: what is remembered goes into the young one, and when that has half of the octets it becomes the
/// old one, and the old one is forgotten. Nothing is ever searched for what to forget.
#[derive(Debug)]
pub(super) struct Cache {
    asked: HashMap<Box<[u8]>, Ticket>,
    young: HashMap<Box<[u8]>, Entry>,
    old: HashMap<Box<[u8]>, Entry>,
    /// Octets of the young generation.
    size: usize,
    size_max: usize,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    /// It counts until then.
    until: Instant,
}

/// What is known about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known<'c> {
    Value(Result<Option<&'c [u8]>, ()>),
    /// The question is under way.
    Asked(Ticket),
}

/// Octets that an entry costs beside its key and value.
const ENTRY_SIZE: usize = 96;

impl Cache {
    /// With so many octets for answers.
    pub(super) fn new(size_max: usize) -> Self {
        let [young, old] = [HashMap::new(), HashMap::new()];
        Self { asked: HashMap::new(), young, old, size: 0, size_max }
    }

    pub(super) fn find(&self, key: &[u8], now: Instant) -> Option<Known<'_>> {
        let known = [&self.young, &self.old].into_iter().find_map(|generation| generation.get(key));
        match known {
            Some(entry) if entry.until > now => {
                Some(Known::Value(entry.value.as_ref().map(Option::as_deref).map_err(|_| ())))
            }
            _ => self.asked.get(key).copied().map(Known::Asked),
        }
    }

    pub(super) fn note_asked(&mut self, key: &[u8], ticket: Ticket) {
        self.asked.insert(key.into(), ticket);
    }

    /// Remembers the answer to a question.
    pub(super) fn remember(&mut self, key: Box<[u8]>, value: Value, until: Instant) {
        self.asked.remove(&key);
        let value_size = value.as_ref().map_or(0, |value| value.as_ref().map_or(0, |value| value.len()));
        self.size += key.len() + value_size + ENTRY_SIZE;
        // An older answer must not hide this one, nor come back when this one is forgotten.
        self.old.remove(&key);
        self.young.insert(key, Entry { value, until });
        if self.size > self.size_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.size = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn answers_are_forgotten_in_time_and_in_space() {
        let mut cache = Cache::new(1000);
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        assert_eq!(cache.find(b"a", now), None);
        cache.note_asked(b"a", Ticket(7));
        assert_eq!(cache.find(b"a", now), Some(Known::Asked(Ticket(7))));
        cache.remember((*b"a").into(), Ok(Some((*b"x").into())), until);
        assert_eq!(cache.find(b"a", now), Some(Known::Value(Ok(Some(b"x")))));
        assert_eq!(cache.find(b"a", until), None);
        cache.remember((*b"b").into(), Ok(None), until);
        assert_eq!(cache.find(b"b", now), Some(Known::Value(Ok(None))));
        for number in 0..100_u32 {
            cache.remember(Box::new(number.to_le_bytes()), Err(()), until);
            assert!(cache.young.len() + cache.old.len() <= 12);
        }
        assert_eq!(cache.find(b"a", now), None);
        assert_eq!(cache.find(&99_u32.to_le_bytes(), now), Some(Known::Value(Err(()))));
    }
}
