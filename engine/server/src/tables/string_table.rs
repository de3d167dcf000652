//! Tables of fixed strings in memory.
//!
//! Keys and values lie in one piece of memory, found by a hash table of eight bytes an entry: a million entries cost
//! their text and about sixteen bytes each, and a lookup touches two places in memory.

use std::borrow::Cow;

use bumpalo::Bump;
use mailrace_core::Sharer;
use mailrace_core::lookup::{LookupError, LookupTable};

/// A table of fixed strings; keys match in any case.
#[derive(Default)]
pub(super) struct StringTable {
    /// For each entry: bytes of the key, bytes of the value (four each), key, value.
    text: Vec<u8>,
    slots: Vec<Slot>,
    entries: usize,
    /// Some key is `@domain`. Without one, lookups of such keys, which come last and rarely succeed, can be skipped.
    has_domains: bool,
}

/// A place of the hash table.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// A part of the key's hash: keys with another are not looked at.
    tag: u32,
    /// Where the entry is in units of [`ENTRY_ALIGNMENT`], one more than it is; 0: there is none.
    place: u32,
}

/// Entries begin at multiples of this, so that a table may have 16 GiB of text.
const ENTRY_ALIGNMENT: usize = 4;
/// Bytes before an entry's key.
const ENTRY_HEADER_SIZE: usize = 8;
/// At most three fifths of the slots are used: a key that is not there is known after four of them, where four
/// fifths would take thirteen.
const SLOTS_MIN: usize = 8;

impl std::fmt::Debug for StringTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StringTable").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl StringTable {
    /// For a number of entries and the total size of their keys and values.
    pub(super) fn with_capacity(entries: usize, text: usize) -> Self {
        let slots = vec![Slot::default(); (entries / 3 * 5).max(SLOTS_MIN)];
        let text = Vec::with_capacity(text + entries * (ENTRY_HEADER_SIZE + 2));
        Self { text, slots, ..Self::default() }
    }

    /// Adds an entry; false if there is one with its key, which stays.
    pub(super) fn insert(&mut self, key: &[u8], value: &[u8]) -> bool {
        if (self.entries + 1) * 5 > self.slots.len() * 3 {
            self.grow();
        }
        let key = folded(key);
        let hash = hash(&key);
        let Err(slot) = self.find_slot(hash, &key) else { return false };
        self.text.resize(self.text.len().next_multiple_of(ENTRY_ALIGNMENT), 0);
        let place = self.text.len() / ENTRY_ALIGNMENT + 1;
        let sizes =
            [key.len(), value.len()].map(|size| u32::try_from(size).expect("a line has less than 4 GiB"));
        sizes.iter().for_each(|size| self.text.extend_from_slice(&size.to_le_bytes()));
        self.text.extend_from_slice(&key);
        self.text.extend_from_slice(value);
        let place = u32::try_from(place).expect("a table's text has less than 16 GiB");
        self.slots[slot] = Slot { tag: tag_of(hash), place };
        self.entries += 1;
        self.has_domains |= key.starts_with(b"@");
        true
    }

    /// The value for a key that is folded already.
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        if self.entries == 0 || !self.has_domains && key.starts_with(b"@") {
            return None;
        }
        let place = self.find_slot(hash(key), key).ok()?;
        Some(self.entry(place).1)
    }

    /// The entry's place, or the empty slot where it would be.
    fn find_slot(&self, hash: u64, key: &[u8]) -> Result<u32, usize> {
        let mut slot = self.first_slot(hash);
        loop {
            let Slot { tag, place } = self.slots[slot];
            if place == 0 {
                return Err(slot);
            }
            if tag == tag_of(hash) && self.entry(place).0 == key {
                return Ok(place);
            }
            slot += 1;
            if slot == self.slots.len() {
                slot = 0;
            }
        }
    }

    /// Spreads the hash over however many slots there are.
    fn first_slot(&self, hash: u64) -> usize {
        usize::try_from((u128::from(hash) * self.slots.len() as u128) >> 64).unwrap_or_default()
    }

    fn entry(&self, place: u32) -> (&[u8], &[u8]) {
        let start = (place as usize - 1) * ENTRY_ALIGNMENT;
        let size = |at: usize| {
            let octets = self.text[at..at + 4].try_into().expect("four octets");
            u32::from_le_bytes(octets) as usize
        };
        let (key, value) = (start + ENTRY_HEADER_SIZE, start + ENTRY_HEADER_SIZE + size(start));
        (&self.text[key..value], &self.text[value..value + size(start + 4)])
    }

    fn grow(&mut self) {
        let slots = vec![Slot::default(); (self.slots.len() * 2).max(SLOTS_MIN)];
        for old in std::mem::replace(&mut self.slots, slots) {
            if old.place != 0 {
                let key = self.entry(old.place).0;
                let hash = hash(key);
                if let Err(slot) = self.find_slot(hash, key) {
                    self.slots[slot] = old;
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.entries
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half of the hash is what is wanted")]
const fn tag_of(hash: u64) -> u32 {
    hash as u32
}

/// A hash for tables whose keys only their operator chooses: sixteen bytes with one multiplication. Each pair of words
/// is multiplied to 128 bits, of which the halves are joined, so that every bit of the key reaches all of the hash.
fn hash(key: &[u8]) -> u64 {
    let mut hash = key.len() as u64 ^ SALTS[0];
    let mut rest = key;
    while let Some((front, behind)) = rest.split_first_chunk::<16>() {
        hash = mixed(word(&front[..8]) ^ SALTS[1], word(&front[8..]) ^ hash);
        rest = behind;
    }
    // The last words overlap where the key is long enough for that.
    let (one, other) = match rest.len() {
        8.. => (word(&rest[..8]), word(&rest[rest.len() - 8..])),
        4.. => (half(&rest[..4]), half(&rest[rest.len() - 4..])),
        _ => (rest.iter().fold(0, |word, octet| word << 8 | u64::from(*octet)), 0),
    };
    mixed(one ^ SALTS[2], other ^ hash)
}

/// Odd, with about as many ones as zeros.
const SALTS: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03, 0x8cb9_2ba7_2f3d_8dd7];

const fn mixed(one: u64, other: u64) -> u64 {
    let product = one as u128 * other as u128;
    #[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

fn word(octets: &[u8]) -> u64 {
    u64::from_le_bytes(octets.try_into().expect("eight octets"))
}

fn half(octets: &[u8]) -> u64 {
    u64::from(u32::from_le_bytes(octets.try_into().expect("four octets")))
}

/// A key as it is compared.
pub(super) fn folded(key: &[u8]) -> Cow<'_, [u8]> {
    mailrace_core::case::folded(key)
}

/// Whether a key is in lower case as it is; eight bytes are looked at at once.
fn is_small_ascii(key: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The highest bit of each byte that is a capital letter or above 127. No sum of two bytes carries over.
    let others = |word: u64| {
        let low = word & (0x7f * EACH);
        let from_a = low + (128 - u64::from(b'A')) * EACH;
        let beyond_z = low + (127 - u64::from(b'Z')) * EACH;
        (from_a & !beyond_z | word) & (0x80 * EACH)
    };
    let (words, rest) = key.as_chunks::<8>();
    let all = words.iter().fold(0, |all, word| all | others(u64::from_le_bytes(*word)));
    // The last bytes once more, if there are eight.
    let last = match key.last_chunk::<8>() {
        Some(word) => others(u64::from_le_bytes(*word)),
        None => others(rest.iter().fold(0, |word, octet| word << 8 | u64::from(*octet))),
    };
    all | last == 0
}

impl LookupTable for StringTable {
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        _: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        if is_small_ascii(key) {
            return Ok(self.get(key));
        }
        if key.is_ascii() {
            let lower = arena.alloc_slice_copy(key);
            lower.make_ascii_lowercase();
            return Ok(self.get(lower));
        }
        Ok(self.get(&folded(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn similar_keys_have_different_hashes() {
        let keys = (0..100_000).map(|number| format!("user{number}@example.com"));
        let short = (0..60_000).map(|number| format!("{number}"));
        for keys in [keys.collect::<Vec<_>>(), short.collect()] {
            // As the slots of a table are chosen, and as their tags are.
            let places = |shift: u32| {
                let places = keys.iter().map(|key| (hash(key.as_bytes()) >> shift) & 0xffff_ffff);
                places.collect::<std::collections::HashSet<u64>>().len()
            };
            for shift in [0, 32] {
                assert!(places(shift) > keys.len() - 10, "{} of {}", places(shift), keys.len());
            }
        }
    }

    #[test]
    fn finds_short_keys_in_every_position() {
        for size in [0, 1, 7, 8, 9, 15, 16, 23] {
            let key = vec![b'a'; size];
            assert!(is_small_ascii(&key));
            for place in 0..size {
                for octet in 0..=u8::MAX {
                    let mut key = key.clone();
                    key[place] = octet;
                    let wanted = octet.is_ascii() && !octet.is_ascii_uppercase();
                    assert_eq!(is_small_ascii(&key), wanted, "{octet} at {place} of {size}");
                }
            }
        }
    }

    #[test]
    fn detects_keys_that_are_domains() {
        let arena = Bump::new();
        let mut table = StringTable::default();
        assert!(table.insert(b"user", b"one"));
        assert_eq!(table.look_up(&arena, b"@example.com", Sharer::default()), Ok(None));
        assert!(table.insert(b"@Example.com", b"two"));
        assert_eq!(table.look_up(&arena, b"@example.COM", Sharer::default()), Ok(Some(&b"two"[..])));
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(entries in prop::collection::vec(("[a-zA-Zä@.]{0,6}", ".{0,6}"), 0..60), start in 0usize..3) {
            let mut table = StringTable::with_capacity(start * 20, 10);
            let mut model: HashMap<String, String> = HashMap::new();
            for (key, value) in &entries {
                let is_new = !model.contains_key(&key.to_lowercase());
                prop_assert_eq!(table.insert(key.as_bytes(), value.as_bytes()), is_new);
                model.entry(key.to_lowercase()).or_insert_with(|| value.clone());
            }
            prop_assert_eq!(table.len(), model.len());
            let arena = Bump::new();
            for (key, _) in &entries {
                let found = table.look_up(&arena, key.to_uppercase().as_bytes(), Sharer::default()).unwrap();
                prop_assert_eq!(found, Some(model[&key.to_lowercase()].as_bytes()));
            }
            prop_assert_eq!(table.look_up(&arena, b"0", Sharer::default()).unwrap(), None);
        }
    }
}
