//! Anything as headers, envelopes and ids of the queue.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailrace_tests::checks::record::check(octets));
