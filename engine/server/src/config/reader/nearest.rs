//! Finds the known name that a misspelt one most resembles.

/// Maximum length of a name that is compared, in bytes. No parameter has a longer name.
const NAME_SIZE_MAX: usize = 80;

/// Returns the name in `known` with the smallest edit distance to `name`, or `None` if all are too different.
pub(in crate::config) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_SIZE_MAX {
        return None;
    }
    let distance_max = (name.len() / 3).max(2);
    let distances = known.map(|candidate| (edit_distance(name.as_bytes(), candidate.as_bytes()), candidate));
    let (distance, candidate) = distances.min()?;
    (distance <= distance_max).then_some(candidate)
}

/// Returns the Levenshtein distance in bytes: the number of insertions, deletions and replacements between the two.
fn edit_distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, octet) in one.iter().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (place, wanted) in row.iter_mut().skip(1).zip(other) {
            let replaced = diagonal + usize::from(octet != wanted);
            diagonal = *place;
            left = replaced.min(left + 1).min(diagonal + 1);
            *place = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_is_levenshtein() {
        for (one, other, distance) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("same", "same", 0)]
        {
            assert_eq!(edit_distance(one.as_bytes(), other.as_bytes()), distance, "{one} {other}");
            assert_eq!(edit_distance(other.as_bytes(), one.as_bytes()), distance, "{other} {one}");
        }
    }

    #[test]
    fn only_similar_names_are_suggested() {
        let known = ["myhostname", "mydomain", "smtpd_timeout"];
        assert_eq!(nearest("my_hostname", known.into_iter()), Some("myhostname"));
        assert_eq!(nearest("smtpd_timout", known.into_iter()), Some("smtpd_timeout"));
        assert_eq!(nearest("virtual_alias_maps", known.into_iter()), None);
        assert_eq!(nearest(&"m".repeat(5000), known.into_iter()), None);
    }
}
