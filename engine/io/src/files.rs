//! Keeps attached files under names that no other file has.

use crate::FileId;
use crate::operation::Serial;
use crate::slab::Slab;

/// The attached files of an `Io`.
#[derive(Debug)]
pub(crate) struct Files<F>(Slab<(Serial, F)>);

impl<F> Default for Files<F> {
    fn default() -> Self {
        Self(Slab::new())
    }
}

impl<F> Files<F> {
    pub(crate) fn attach(&mut self, file: F) -> FileId {
        let serial = Serial::next();
        FileId { serial, index: self.0.insert((serial, file)) }
    }

    /// # Panics
    /// When the name is that of a file which was detached, or belongs to another `Io`.
    pub(crate) fn detach(&mut self, id: FileId) -> F {
        self.get(id);
        self.0.take(id.index).expect("looked up above").1
    }

    /// # Panics
    /// As [`Files::detach`]: a write must not go to another file than the one that was meant.
    pub(crate) fn get(&self, id: FileId) -> &F {
        match self.0.get(id.index) {
            Some((serial, file)) if *serial == id.serial => file,
            _ => panic!("an operation names a file that is not attached here"),
        }
    }

    /// # Panics
    /// As [`Files::detach`].
    pub(crate) fn get_mut(&mut self, id: FileId) -> &mut F {
        match self.0.get_mut(id.index) {
            Some((serial, file)) if *serial == id.serial => file,
            _ => panic!("an operation names a file that is not attached here"),
        }
    }
}
