//! Anything that a server may reply, cut anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailrace_tests::checks::replies::check(octets));
