//! The real ring.
