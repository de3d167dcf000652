//! The hand-over of lines under all kinds of schedules: the file `waiting.rs` itself, built over primitives at each of
//! which another thread may go on. The queue between the threads is a model of crossbeam's.

use shuttle::sync::Arc;
use shuttle::thread;

use waiting::Waiting;

#[path = "waiting.rs"]
#[expect(clippy::duplicate_mod, reason = "the second time it is built over other primitives")]
mod waiting;

mod sync {
    use std::collections::VecDeque;

    pub(super) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    /// A bounded queue, which bounds the bytes that wait.
    #[derive(Debug)]
    pub(super) struct ArrayQueue<T> {
        items: shuttle::sync::Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T: AsRef<[u8]>> ArrayQueue<T> {
        pub(super) fn new(capacity: usize) -> Self {
            Self { items: shuttle::sync::Mutex::new(VecDeque::new()), capacity }
        }

        pub(super) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            let octets: usize = items.iter().map(|item| item.as_ref().len()).sum();
            assert!(octets <= super::OCTETS_MAX, "{octets} octets wait");
            Ok(())
        }

        pub(super) fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }
    }
}

const SCHEDULES: usize = 5000;
/// Room for three bundles.
const OCTETS_MAX: usize = 30;

/// Each line is written out or counted as lost, whenever the end comes; and the bound holds.
#[test]
fn no_line_is_lost_between_threads() {
    // At random, and with few changes of the thread at bad moments.
    shuttle::check_random(hand_over, SCHEDULES);
    shuttle::check_pct(hand_over, SCHEDULES, 2);
}

fn hand_over() {
    let (writers, bundles, size) = (2, 3, 10);
    let waiting = Arc::new(Waiting::new(OCTETS_MAX));
    let taken = Arc::new(shuttle::sync::atomic::AtomicUsize::new(0));
    let reader = {
        let (waiting, taken) = (Arc::clone(&waiting), Arc::clone(&taken));
        thread::spawn(move || {
            loop {
                let is_stopping = waiting.is_stopping();
                while let Some(bundle) = waiting.take() {
                    taken.fetch_add(1, sync::Ordering::Relaxed);
                    waiting.give_back(bundle);
                }
                if is_stopping {
                    return;
                }
                thread::yield_now();
            }
        })
    };
    let writers: Vec<_> = (0..writers)
        .map(|_| {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || {
                for _ in 0..bundles {
                    let mut bundle = waiting.spare();
                    assert!(bundle.is_empty(), "memory is given back empty");
                    bundle.resize(size, b'x');
                    waiting.hand_over(bundle, 1, None);
                }
            })
        })
        .collect();
    let handed_over = writers.len() * bundles;
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    waiting.stop();
    reader.join().unwrap();
    let taken = taken.load(sync::Ordering::Relaxed);
    let lost = usize::try_from(waiting.lines_lost()).unwrap();
    assert_eq!(taken + lost, handed_over, "{taken} taken, {lost} lost");
    assert!(waiting.take().is_none());
    // All bytes are given back: as many fit as at the start.
    assert_eq!(waiting.fill(), (0, OCTETS_MAX));
    assert!(waiting.bundle_size_min() <= size);
    (0..3).for_each(|_| _ = waiting.hand_over(vec![b'x'; size], 1, None));
    assert_eq!(usize::try_from(waiting.lines_lost()).unwrap(), lost);
    waiting.hand_over(vec![b'x'], 1, None);
    assert_eq!(usize::try_from(waiting.lines_lost()).unwrap(), lost + 1, "no more waits than may");
}
