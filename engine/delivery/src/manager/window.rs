//! How many deliveries to one destination may be under way: Postfix's concurrency feedback (qmgr(8)).

/// Limits of a destination's concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSettings {
    /// Deliveries at once to a destination of which nothing is known (`initial_destination_concurrency`).
    pub initial: u32,
    /// Most deliveries at once (`default_destination_concurrency_limit`); 0: no limit.
    pub limit: u32,
    /// Failures in a row, each counted as a part of the window, after which a destination is dead
    /// (`default_destination_concurrency_failed_cohort_limit`); 0: never.
    pub failed_cohort_limit: u32,
}

/// The concurrency of one destination. With Postfix's default feedback, each success adds one delivery, and each failure
/// takes one away, the first one of a row two.
#[derive(Clone, Debug)]
pub(super) struct Window {
    size: u32,
    success: f64,
    failure: f64,
    failed_cohorts: f64,
}

/// Postfix's default for `…_positive_feedback` and `…_negative_feedback`.
const FEEDBACK: f64 = 1.0;
/// The part of the feedback by which a change comes early: without it, windows would swing.
const HYSTERESIS: f64 = FEEDBACK / 2.0;

impl Window {
    pub(super) fn new(settings: &WindowSettings) -> Self {
        Self { size: settings.initial.max(1), success: 0.0, failure: 0.0, failed_cohorts: 0.0 }
    }

    /// Number of deliveries that may be under way.
    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    /// A delivery reached the destination; `busy` are under way, this one included.
    pub(super) fn succeeded(&mut self, settings: &WindowSettings, busy: u32) {
        self.failed_cohorts = 0.0;
        let is_below_limit = settings.limit == 0 || self.size < settings.limit;
        // A window that is not used does not grow.
        if !is_below_limit || self.size >= busy.saturating_add(settings.initial) {
            return;
        }
        self.success += FEEDBACK;
        while self.success + HYSTERESIS >= 1.0 {
            self.size += 1;
            self.success -= 1.0;
            self.failure = 0.0;
            if settings.limit > 0 && self.size >= settings.limit {
                self.success = 0.0;
                break;
            }
        }
    }

    /// A delivery did not reach the destination. Returns whether it is dead.
    pub(super) fn failed(&mut self, settings: &WindowSettings) -> bool {
        self.failed_cohorts += 1.0 / f64::from(self.size);
        if settings.failed_cohort_limit > 0 && self.failed_cohorts >= f64::from(settings.failed_cohort_limit)
        {
            return true;
        }
        self.failure -= FEEDBACK;
        while self.failure - HYSTERESIS < 0.0 {
            self.size = self.size.saturating_sub(1).max(1);
            self.success = 0.0;
            self.failure += 1.0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: WindowSettings = WindowSettings { initial: 5, limit: 20, failed_cohort_limit: 1 };

    #[test]
    fn grows_with_each_success_up_to_the_limit() {
        let mut window = Window::new(&SETTINGS);
        let mut sizes = Vec::new();
        for _ in 0..17 {
            let busy = window.size();
            window.succeeded(&SETTINGS, busy);
            sizes.push(window.size());
        }
        assert_eq!(sizes, (6..=20).chain([20, 20]).collect::<Vec<u32>>());
    }

    #[test]
    fn does_not_grow_beyond_what_is_used() {
        let mut window = Window::new(&SETTINGS);
        for _ in 0..10 {
            window.succeeded(&SETTINGS, 1);
        }
        assert_eq!(window.size(), 6, "one under way, and the initial five");
    }

    /// Seen on Postfix 3.7: 5, 3, 2, dead.
    #[test]
    fn three_failures_in_a_row_make_a_destination_dead() {
        let mut window = Window::new(&SETTINGS);
        let seen: Vec<(bool, u32)> = (0..3).map(|_| (window.failed(&SETTINGS), window.size())).collect();
        assert_eq!(seen, [(false, 3), (false, 2), (true, 2)]);
    }

    #[test]
    fn one_failure_is_enough_for_an_initial_window_of_one() {
        let settings = WindowSettings { initial: 1, ..SETTINGS };
        assert!(Window::new(&settings).failed(&settings));
        let never = WindowSettings { failed_cohort_limit: 0, ..settings };
        let mut window = Window::new(&never);
        assert!((0..100).all(|_| !window.failed(&never) && window.size() == 1));
    }

    #[test]
    fn a_success_between_failures_keeps_a_destination_alive() {
        let mut window = Window::new(&SETTINGS);
        for _ in 0..50 {
            assert!(!window.failed(&SETTINGS));
            window.succeeded(&SETTINGS, 5);
        }
    }

    proptest! {
        #[test]
        fn stays_between_one_and_the_limit(
            results in proptest::collection::vec((any::<bool>(), 1..30u32), 0..200),
            initial in 1..40u32,
            limit in 0..30u32,
        ) {
            let settings = WindowSettings { initial, limit, failed_cohort_limit: 0 };
            let mut window = Window::new(&settings);
            for (is_success, busy) in results {
                if is_success {
                    window.succeeded(&settings, busy);
                } else {
                    window.failed(&settings);
                }
                prop_assert!(window.size() >= 1);
                prop_assert!(limit == 0 || window.size() <= limit.max(initial));
            }
        }
    }
}
