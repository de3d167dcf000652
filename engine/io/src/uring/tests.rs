use super::*;
use crate::conformance::conformance;

conformance!(Uring);
