//! Anything as the structure of a message.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailrace_tests::checks::mime::check(octets));
