//! Indexed storage with stable places.
