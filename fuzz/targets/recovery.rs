//! A queue that was damaged in any way.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailrace_tests::checks::recovery::check(octets));
