//! The workers as other threads see them.

use crossbeam::channel::Sender;
use mailrace_io::Waker;

use super::Control;

/// The workers as other threads see them.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Vec<(Sender<Control>, Waker)>);

impl Workers {
    /// Channel and waker of each worker.
    pub(crate) const fn new(workers: Vec<(Sender<Control>, Waker)>) -> Self {
        Self(workers)
    }

    /// Sends a request to each worker.
    pub(crate) fn tell(&self, mut control: impl FnMut() -> Control) {
        for (sender, waker) in &self.0 {
            // A worker ends only with the process.
            let _ = sender.send(control());
            waker.wake();
        }
    }

    /// Sends a request to one of them; `index` may be any number.
    pub(crate) fn tell_one(&self, index: usize, control: Control) {
        if let Some((sender, waker)) = self.0.get(index % self.0.len().max(1)) {
            // As above.
            let _ = sender.send(control);
            waker.wake();
        }
    }

    /// Wakes one of them.
    pub(crate) fn wake(&self, index: usize) {
        if let Some((_, waker)) = self.0.get(index) {
            waker.wake();
        }
    }

    pub(crate) const fn count(&self) -> usize {
        self.0.len()
    }
}
