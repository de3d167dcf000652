//! Any text as a configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailrace_tests::checks::configuration::check(octets));
