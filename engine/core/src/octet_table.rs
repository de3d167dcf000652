//! A table with a value for each byte.

/// A value for each of the 256 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OctetTable<Value>([Value; 256]);

impl<Value: Copy> OctetTable<Value> {
    /// The same value for all.
    pub(crate) const fn filled(value: Value) -> Self {
        Self([value; 256])
    }

    #[expect(clippy::indexing_slicing, reason = "there is a place for each octet")]
    pub(crate) const fn get(&self, octet: u8) -> Value {
        self.0[octet as usize]
    }

    #[expect(clippy::indexing_slicing, reason = "there is a place for each octet")]
    pub(crate) const fn set(&mut self, octet: u8, value: Value) {
        self.0[octet as usize] = value;
    }
}
