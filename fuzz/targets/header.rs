//! Anything as a header section.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailrace_tests::checks::header::check(octets));
