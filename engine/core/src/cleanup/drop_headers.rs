//! Pass that removes the fields of `message_drop_headers`.

use alloc::vec::Vec;

use super::field::OneField;
use super::settings::Settings;

/// Returns whether to remove the field.
pub(super) fn is_dropped(settings: &Settings, field: &OneField<'_, '_>) -> bool {
    settings.message_drop_headers.has(field.name())
}

/// Set of field names, compared without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldNames {
    names: Vec<Vec<u8>>,
    /// One bit per name length, modulo 64; rules out most fields.
    sizes: u64,
}

impl FieldNames {
    /// Returns whether the set contains `name`.
    #[must_use]
    pub fn has(&self, name: &[u8]) -> bool {
        self.sizes & size_bit(name) != 0 && self.names.iter().any(|known| name.eq_ignore_ascii_case(known))
    }
}

const fn size_bit(name: &[u8]) -> u64 {
    1 << (name.len() % 64)
}

impl<Name: AsRef<[u8]>> FromIterator<Name> for FieldNames {
    fn from_iter<Names: IntoIterator<Item = Name>>(names: Names) -> Self {
        let names: Vec<Vec<u8>> = names.into_iter().map(|name| name.as_ref().to_vec()).collect();
        let sizes = names.iter().fold(0, |sizes, name| sizes | size_bit(name));
        Self { names, sizes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_match_in_any_case() {
        let long = "x".repeat(66);
        let names: FieldNames = ["Bcc", "return-path", &long].into_iter().collect();
        for (name, is_in) in
            [("bcc", true), ("RETURN-path", true), ("to", false), ("bcd", false), (&long, true)]
        {
            assert_eq!(names.has(name.as_bytes()), is_in, "{name}");
        }
    }
}
