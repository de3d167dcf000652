use proptest::prelude::*;

use super::*;

const PERIOD: Duration = Duration::from_secs(60);

#[test]
fn lines_beyond_the_limit_are_counted_and_reported_once() {
    let start = Instant::now();
    let mut limit = LineLimit::new(3, PERIOD, 10);
    let written = (0..1000).filter(|_| limit.admits(&"a", start)).count();
    assert_eq!(written, 3);
    assert!(limit.admits(&"b", start), "another kind");
    assert_eq!(limit.next_end(), Some(start + PERIOD));
    assert_eq!(limit.ended(start + PERIOD / 2), []);
    assert_eq!(limit.ended(start + PERIOD), [("a", 997)]);
    assert_eq!(limit.ended(start + PERIOD), []);
    assert_eq!(limit.next_end(), None);
    assert!(limit.admits(&"a", start + PERIOD), "a new period");
}

#[test]
fn the_number_of_kinds_is_bounded() {
    let start = Instant::now();
    let mut limit = LineLimit::new(1, PERIOD, 10);
    assert_eq!((0..1000).filter(|kind| limit.admits(kind, start)).count(), 10);
    assert_eq!(limit.kinds.len(), 10);
    limit.ended(start + PERIOD);
    assert!(limit.admits(&999, start + PERIOD));
}

proptest! {
    /// Each line is written, or is in a count that is reported when its period ends.
    #[test]
    fn no_line_is_forgotten(steps in proptest::collection::vec((0u8..4, 0u64..40), 0..200)) {
        let mut limit = LineLimit::new(3, PERIOD, 100);
        let mut now = Instant::now();
        let (mut written, mut counted) = ([0u64; 4], [0u64; 4]);
        for (kind, seconds) in &steps {
            now += Duration::from_secs(*seconds);
            for (kind, count) in limit.ended(now) {
                counted[usize::from(kind)] += count;
            }
            written[usize::from(*kind)] += u64::from(limit.admits(kind, now));
        }
        let due = limit.next_end();
        prop_assert!(due.is_none_or(|due| due <= now + PERIOD));
        for (kind, count) in limit.ended(now + PERIOD) {
            counted[usize::from(kind)] += count;
        }
        prop_assert_eq!(limit.next_end(), None);
        for kind in 0..4 {
            let all = steps.iter().filter(|(step, _)| usize::from(*step) == kind).count();
            prop_assert_eq!(written[kind] + counted[kind], all as u64);
        }
    }
}
