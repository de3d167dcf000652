//! Anything as a lookup table, asked for anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailrace_tests::checks::tables::check(octets));
