//! Benchmarks: the canned responder, the comparison with it and with Postfix, memory.
//!
//! `mailrace-bench --help` lists what can be measured; `bench/README.md` says which question each answers.
#![forbid(unsafe_code)]

pub mod canned;
pub mod compare;
pub mod error;
pub mod fair;
pub mod hostile;
pub mod load;
pub mod memory;
pub mod noise;
pub mod place;
pub mod probe;
pub mod process;
pub mod sample;
pub mod summary;
pub mod workload;
