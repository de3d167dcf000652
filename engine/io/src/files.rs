//! Keeps attached files under names that no other file has.

use crate::FileId;
use crate::operation::Serial;
use crate::slab::Slab;

/// The attached files of an `Io`.
#[derive(Debug)]
pub(crate) struct Files<F>(Slab<Attached<F>>);

#[derive(Debug)]
struct Attached<F> {
    serial: Serial,
    file: F,
    /// Number of operations that have not completed.
    under_way: u32,
}

impl<F> Default for Files<F> {
    fn default() -> Self {
        Self(Slab::new())
    }
}

impl<F> Files<F> {
    pub(crate) fn attach(&mut self, file: F) -> FileId {
        let serial = Serial::next();
        FileId { serial, index: self.0.insert(Attached { serial, file, under_way: 0 }) }
    }

    /// # Panics
    /// When the name is that of a file which was detached, or belongs to another `Io`; when an operation on it has not
    /// completed.
    pub(crate) fn detach(&mut self, id: FileId) -> F {
        assert!(self.attached(id).under_way == 0, "a file is detached while it is written to or read from");
        self.0.take(id.index).expect("looked up above").file
    }

    /// Begins an operation on a file.
    ///
    /// # Panics
    /// When the file is not attached here: a write must not go to another file than the one that was meant.
    pub(crate) fn begin(&mut self, id: FileId) -> &mut F {
        let attached = self.attached(id);
        attached.under_way += 1;
        &mut attached.file
    }

    /// An operation on a file has completed.
    pub(crate) fn end(&mut self, id: FileId) {
        self.attached(id).under_way -= 1;
    }

    /// # Panics
    /// As [`Files::begin`].
    pub(crate) fn get_mut(&mut self, id: FileId) -> &mut F {
        &mut self.attached(id).file
    }

    fn attached(&mut self, id: FileId) -> &mut Attached<F> {
        match self.0.get_mut(id.index) {
            Some(attached) if attached.serial == id.serial => attached,
            _ => panic!("an operation names a file that is not attached here"),
        }
    }
}
