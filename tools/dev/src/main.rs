//! Filled in by its own change.
fn main() {}
