//! What is remembered of a remote table's answers, in bounded memory.

use std::collections::HashMap;
use std::time::Instant;

/// A value, none, or that there was no answer.
type Value = Result<Option<Box<[u8]>>, ()>;

/// Answers.
///
/// Two generations: what is remembered goes into the young one, and when that has half of the bytes it becomes the
/// old one, and the old one is forgotten. Nothing is ever searched for what to forget.
#[derive(Debug)]
pub(super) struct Cache {
    young: HashMap<Box<[u8]>, Entry>,
    old: HashMap<Box<[u8]>, Entry>,
    /// Bytes of the young generation.
    size: usize,
    size_max: usize,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    /// It counts until then.
    until: Instant,
}

/// Bytes that an entry costs beside its key and value.
const ENTRY_SIZE: usize = 96;

impl Cache {
    /// An empty cache with `size_max` bytes for answers.
    pub(super) fn new(size_max: usize) -> Self {
        let [young, old] = [HashMap::new(), HashMap::new()];
        Self { young, old, size: 0, size_max }
    }

    /// What is remembered of the answer for `key`.
    pub(super) fn find(&self, key: &[u8], now: Instant) -> Option<Result<Option<&[u8]>, ()>> {
        let known = [&self.young, &self.old].into_iter().find_map(|generation| generation.get(key));
        let entry = known.filter(|entry| entry.until > now)?;
        Some(entry.value.as_ref().map(Option::as_deref).map_err(|_| ()))
    }

    /// Remembers the answer to a question, unless it alone is too large.
    pub(super) fn remember(&mut self, key: Box<[u8]>, value: Value, until: Instant) {
        let value_size = value.as_ref().map_or(0, |value| value.as_ref().map_or(0, |value| value.len()));
        let size = key.len() + value_size + ENTRY_SIZE;
        // An older answer must not hide this one, nor come back when this one is forgotten.
        self.old.remove(&key);
        if size > self.size_max / 2 {
            self.young.remove(&key);
            return;
        }
        self.size += size;
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
    fn answers_expire_and_are_evicted() {
        let mut cache = Cache::new(1000);
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        assert_eq!(cache.find(b"a", now), None);
        cache.remember((*b"a").into(), Ok(Some((*b"x").into())), until);
        assert_eq!(cache.find(b"a", now), Some(Ok(Some(&b"x"[..]))));
        assert_eq!(cache.find(b"a", until), None);
        cache.remember((*b"b").into(), Ok(None), until);
        assert_eq!(cache.find(b"b", now), Some(Ok(None)));
        for number in 0..100_u32 {
            cache.remember(Box::new(number.to_le_bytes()), Err(()), until);
            assert!(cache.young.len() + cache.old.len() <= 12);
        }
        assert_eq!(cache.find(b"a", now), None);
        assert_eq!(cache.find(&99_u32.to_le_bytes(), now), Some(Err(())));
    }
}
