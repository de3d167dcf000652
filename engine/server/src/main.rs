//! The `mailrace` program.
fn main() {}
