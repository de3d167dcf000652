//! Benchmarks: the canned responder, the comparison with it and with Postfix, memory.
//!
//! `mailrace-bench --help` lists what can be measured; `bench/README.md` says which question each answers.
#![forbid(unsafe_code)]

pub mod canned;
