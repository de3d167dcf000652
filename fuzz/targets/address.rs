//! Anything as a path, an address, a list of addresses.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailrace_tests::checks::address::check(octets));
