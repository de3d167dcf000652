//! Any message through the cleanup passes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailrace_tests::passes::{Given, check};

fuzz_target!(|octets: &[u8]| check(&Given::of(octets)));
