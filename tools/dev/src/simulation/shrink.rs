//! Owns making a failing seed smaller: what it fails without is left out.

use mailrace_io::sim::Fault;

use super::Options;

/// Leaves out of a failing run what it still fails without. `fails`: whether a run with these options does.
pub(super) fn shrink(options: &Options, mut fails: impl FnMut(&Options) -> bool) -> Options {
    let mut options = options.clone();
    let mut try_with = |options: &mut Options, change: &dyn Fn(&mut Options)| {
        let mut smaller = options.clone();
        change(&mut smaller);
        let still_fails = smaller != *options && fails(&smaller);
        if still_fails {
            *options = smaller;
        }
        still_fails
    };
    // Twice: what could not go while something else was there may go now.
    for _ in 0..2 {
        for lives in 0..LIVES_MAX.min(options.lives.unwrap_or(LIVES_MAX)) {
            if try_with(&mut options, &|options| options.lives = Some(lives)) {
                break;
            }
        }
        for clients in 1..CLIENTS_MAX.min(options.clients.unwrap_or(CLIENTS_MAX)) {
            if try_with(&mut options, &|options| options.clients = Some(clients)) {
                break;
            }
        }
        for fault in Fault::ALL {
            if !options.without.contains(&fault) {
                try_with(&mut options, &|options| options.without.push(fault));
            }
        }
    }
    options
}

/// No world has more lives, or clients in one.
const LIVES_MAX: usize = 4;
const CLIENTS_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_a_violation_does_not_need() {
        let needs = |options: &Options| {
            let has = |fault| !options.without.contains(&fault);
            has(Fault::Kill)
                && options.lives.is_none_or(|lives| lives >= 2)
                && options.clients.is_none_or(|clients| clients >= 3)
        };
        let shrunk = shrink(&Options::default(), needs);
        assert_eq!((shrunk.lives, shrunk.clients), (Some(2), Some(3)));
        assert_eq!(shrunk.without.len(), Fault::ALL.len() - 1);
        assert!(!shrunk.without.contains(&Fault::Kill));
    }
}
