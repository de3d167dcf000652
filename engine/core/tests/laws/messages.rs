//! Header sections and dates.

use bumpalo::Bump;
use mailrace_core::Timestamp;
use mailrace_core::message::date::{Civil, Zone, date};
use mailrace_core::message::header::{Item, field_name, find_crlf, next_item};
use proptest::prelude::*;

/// Days of a month, counted without the arithmetic of the code under test.
fn days_of(year: u32, month: u8) -> u8 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[test]
fn each_day_follows_the_day_before_for_four_hundred_years() {
    let at = |day: u64| Civil::new(Timestamp::from_unix_microseconds(day * 86_400_000_000), 0);
    let mut before = at(0);
    assert_eq!((before.year, before.month, before.day, before.weekday), (1970, 1, 1, 4));
    for day in 1..=146_097 {
        let next = at(day);
        let expected = if before.day < days_of(before.year, before.month) {
            (before.year, before.month, before.day + 1)
        } else if before.month < 12 {
            (before.year, before.month + 1, 1)
        } else {
            (before.year + 1, 1, 1)
        };
        assert_eq!((next.year, next.month, next.day), expected, "day {day}");
        assert_eq!(next.weekday, (before.weekday + 1) % 7, "day {day}");
        before = next;
    }
}

proptest! {
    #[test]
    fn seconds_of_a_day_are_told_apart(day in 0..1_000_000_u64, second in 0..86_400_u32, micros in 0..1_000_000_u64) {
        let time = (day * 86_400 + u64::from(second)) * 1_000_000 + micros;
        let civil = Civil::new(Timestamp::from_unix_microseconds(time), 0);
        let found = u32::from(civil.hour) * 3600 + u32::from(civil.minute) * 60 + u32::from(civil.second);
        prop_assert_eq!(found, second);
    }

    #[test]
    fn a_date_has_the_offset_that_moved_its_clock(seconds in 100_000..4_000_000_000_u64, minutes in -14 * 60..=14 * 60_i32) {
        let arena = Bump::new();
        let zone = Zone { offset_seconds: minutes * 60, abbreviation: b"X".to_vec() };
        let text = std::str::from_utf8(date(&arena, Timestamp::from_unix_microseconds(seconds * 1_000_000), &zone)).unwrap();
        let (clock, offset) = text.strip_suffix(" (X)").unwrap().rsplit_once(' ').unwrap();
        let number = |range: std::ops::Range<usize>| offset[range].parse::<i32>().unwrap();
        let sign = if offset.starts_with('-') { -1 } else { 1 };
        prop_assert_eq!(sign * (number(1..3) * 60 + number(3..5)), minutes);
        // The clock shows what UTC shows at the moved time.
        let moved = seconds.checked_add_signed(i64::from(minutes) * 60).unwrap();
        let utc = date(&arena, Timestamp::from_unix_microseconds(moved * 1_000_000), &Zone::default());
        prop_assert_eq!(format!("{clock} +0000 (UTC)").into_bytes(), utc);
        prop_assert_eq!(clock.len(), "Tue, 24 Nov 2026 02:09:59".len());
    }

    #[test]
    fn items_of_a_header_section_are_its_bytes_in_order(
        lines in prop::collection::vec("(A: x|B :|: |Word|Two words: x|\t| folded|\r|\n|\0){0,3}\r\n", 0..10),
    ) {
        let text = lines.concat();
        let mut rest = text.as_bytes();
        loop {
            match next_item(rest, true) {
                Item::Field(field) => {
                    prop_assert!(rest.starts_with(field.raw) && !field.raw.is_empty());
                    prop_assert_eq!(field_name(field.raw), Some((field.name_size, field.colon)));
                    prop_assert_eq!(field.has_nul, field.raw.contains(&0));
                    prop_assert_eq!(field.raw[field.colon], b':');
                    rest = &rest[field.raw.len()..];
                    prop_assert!(!rest.starts_with(b" ") && !rest.starts_with(b"\t"), "a continuation line belongs to its field");
                }
                Item::End(size) => {
                    prop_assert!(rest.is_empty() && size == 0 || rest.starts_with(b"\r\n") && size == 2);
                    break;
                }
                Item::Body => break,
                Item::Incomplete => prop_assert!(false, "nothing is missing"),
            }
        }
    }

    #[test]
    fn an_item_that_is_decided_early_stays_decided(text in "(A: x|B :| c|\t|\r\n){0,8}", cut in any::<prop::sample::Index>()) {
        let front = &text.as_bytes()[..cut.index(text.len() + 1)];
        let early = next_item(front, false);
        if early != Item::Incomplete {
            prop_assert_eq!(next_item(text.as_bytes(), true), early);
        }
    }

    #[test]
    fn the_first_crlf_is_found(text in prop::collection::vec(prop::sample::select(&b"\r\nx"[..]), 0..12)) {
        prop_assert_eq!(find_crlf(&text), text.windows(2).position(|pair| pair == b"\r\n"));
    }
}
