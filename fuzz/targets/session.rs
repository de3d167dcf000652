//! Anything that a client may send, cut anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailrace_tests::checks::session::check(octets));
