use alloc::vec;

use super::*;

/// A table with an answer for every key.
#[derive(Clone, Copy, Debug)]
struct Always {
    answer: Result<Option<&'static [u8]>, LookupError>,
    is_asked_for_parts: bool,
    may_wait: bool,
}

impl LookupTable for Always {
    fn look_up<'a>(&'a self, _: &'a Bump, _: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        self.answer
    }

    fn is_asked_for_parts(&self) -> bool {
        self.is_asked_for_parts
    }

    fn may_wait(&self) -> bool {
        self.may_wait
    }
}

const NOTHING: Always = Always { answer: Ok(None), is_asked_for_parts: true, may_wait: false };
const BROKEN: Always = Always { answer: Err(LookupError::Unavailable), ..NOTHING };
const SLOW: Always = Always { answer: Err(LookupError::Pending(Ticket(7))), may_wait: true, ..NOTHING };

const fn saying(answer: &'static [u8]) -> Always {
    Always { answer: Ok(Some(answer)), ..NOTHING }
}

fn maps(tables: &[Always]) -> Maps {
    Maps::new(tables.iter().map(|table| Arc::new(*table) as Arc<dyn LookupTable>).collect())
}

fn find(maps: &Maps, key: &[u8]) -> Result<Option<Vec<u8>>, LookupError> {
    maps.find(&Bump::new(), key, Sharer::default()).map(|value| value.map(<[u8]>::to_vec))
}

#[test]
fn the_first_table_with_a_value_or_an_error_decides() {
    let (one, two) = (saying(b"1"), saying(b"2"));
    for (tables, expected) in [
        (vec![], Ok(None)),
        (vec![NOTHING, NOTHING], Ok(None)),
        (vec![NOTHING, one, two], Ok(Some(b"1".to_vec()))),
        (vec![two, BROKEN], Ok(Some(b"2".to_vec()))),
        (vec![NOTHING, BROKEN, one], Err(LookupError::Unavailable)),
        (vec![SLOW, BROKEN, one], Err(LookupError::Pending(Ticket(7)))),
        (vec![saying(b""), one], Ok(Some(vec![]))),
    ] {
        assert_eq!(find(&maps(&tables), b"key"), expected, "{tables:?}");
    }
}

/// Not even a table that cannot answer is asked.
#[test]
fn an_empty_key_has_no_value() {
    assert_eq!(find(&maps(&[BROKEN, saying(b"1")]), b""), Ok(None));
}

#[test]
fn tables_of_patterns_are_not_asked_for_parts() {
    let pattern = Always { is_asked_for_parts: false, ..saying(b"of a pattern") };
    let maps = maps(&[pattern, saying(b"1")]);
    let arena = Bump::new();
    assert_eq!(maps.find_part(&arena, b"key", Sharer::default()), Ok(Some(&b"1"[..])));
    assert_eq!(maps.find(&arena, b"key", Sharer::default()), Ok(Some(&b"of a pattern"[..])));
}

#[test]
fn one_table_that_may_wait_makes_the_list_wait() {
    assert!(!maps(&[]).may_wait() && maps(&[]).is_empty());
    assert!(!maps(&[NOTHING, BROKEN]).may_wait());
    let mixed = maps(&[NOTHING, SLOW]);
    assert!(mixed.may_wait() && !mixed.is_empty());
    let each: Vec<bool> = mixed.each().map(|maps| maps.may_wait()).collect();
    assert_eq!(each, [false, true]);
}
