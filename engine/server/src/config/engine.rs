//! The process: workers and their memory.

use super::Configuration;
use super::error::{ConfigError, ConfigErrors, Fault};
use super::reader::{Section, parameters};
use super::value::{IoChoice, Octets};

parameters! {
    /// Workers and their memory.
    pub struct EngineParameters titled "Process";

    /// Number of workers, the threads that serve connections; 0: one per processor that the process may run on.
    [engine] workers: u16 = 0 in 0 ..= 1024;
    /// Kernel interface: `ring` (io_uring), `epoll`, or `auto`, which selects io_uring where it is available.
    [engine] io: IoChoice = "auto";
    /// User-space memory for connections and messages in progress, for all workers together; 0: 256 MiB, or
    /// 48 MiB per worker in addition to its fixed buffers (24 MiB with the defaults), whichever is more.
    /// docs/operations.md, "Memory", lists the memory that this limit does not include.
    [engine] memory_limit: Octets = 0 in 16_777_216 ..= 1_099_511_627_776, or 0;
}

/// Memory of all workers, in bytes, with `memory_limit = 0` and few workers.
const MEMORY_DEFAULT: usize = 256 << 20;
/// Memory per worker in addition to its fixed buffers, in bytes, with `memory_limit = 0` and many workers.
const CONTENT_MEMORY_DEFAULT: usize = 48 << 20;
/// Least memory per worker in addition to its fixed buffers, in bytes.
const CONTENT_MEMORY_MIN: usize = 4 << 20;
/// Size of a worker's receive buffers, in bytes.
const RECEIVE_MEMORY: usize = 4 << 20;

impl Configuration {
    /// Returns the number of workers for a process that may run on `processors` processors.
    #[must_use]
    pub fn workers(&self, processors: usize) -> u16 {
        match self.engine.workers {
            0 => u16::try_from(processors).unwrap_or(u16::MAX).max(1),
            count => count,
        }
    }

    /// Checks that workers have memory for content. Without it they would pause reading most of the time. Only `serve` knows
    /// the number of workers, because other commands may run on another machine.
    ///
    /// # Errors
    /// `memory_limit` is less than `workers` need.
    pub fn check_memory(&self, workers: u16) -> Result<(), ConfigErrors> {
        let limit = self.engine.memory_limit.0;
        let least = self.least_memory(usize::from(workers)).div_ceil(1 << 20);
        if limit == 0 || limit >> 20 >= least as u64 {
            return Ok(());
        }
        let reason =
            format!("is too small for the fixed buffers of {workers} workers and content beside them");
        let remedy =
            format!("write at least \"{least}MiB\" or 0, or lower workers, or block_size in [queue]");
        Err(ConfigErrors(vec![ConfigError {
            place: self.memory_place.clone(),
            name: Section::Engine.qualify("memory_limit"),
            fault: Fault::Value { reason, remedy },
        }]))
    }

    /// Returns the bytes that each of `workers` may use for content, envelopes and input.
    pub(super) fn content_memory(&self, workers: usize) -> usize {
        match self.engine.memory_limit.in_memory() {
            0 => (MEMORY_DEFAULT / workers).saturating_sub(self.fixed_memory()).max(CONTENT_MEMORY_DEFAULT),
            limit => (limit / workers).saturating_sub(self.fixed_memory()),
        }
    }

    /// Returns the least `memory_limit` that is enough for `workers`.
    fn least_memory(&self, workers: usize) -> usize {
        self.fixed_memory().saturating_add(CONTENT_MEMORY_MIN).saturating_mul(workers)
    }

    /// Returns the fixed memory of a worker, in bytes: blocks, log lines, receive buffers, and copies of two turns' input.
    /// Receiving stops one turn after memory has run out.
    fn fixed_memory(&self) -> usize {
        let blocks = self.queue.block_size.in_memory().saturating_mul(self.queue.blocks());
        blocks.saturating_add(3 * RECEIVE_MEMORY).saturating_add(self.log.log_memory.in_memory())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Tables;
    use crate::config::tests::check;

    #[test]
    fn memory_limit_has_the_same_range_for_any_number_of_workers() {
        for limit in ["1", "16777215"] {
            let error = check(&format!("[engine]\nmemory_limit = {limit}\n")).unwrap_err();
            let expected = format!(
                "test.toml:2: engine.memory_limit: {limit} is out of range; write 0, or 16777216 to 1099511627776"
            );
            assert!(error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn each_worker_has_memory_for_content() {
        let of = |text: &str, workers: u16| {
            check(text).unwrap().worker_settings(workers, &Tables::default()).content_memory >> 20
        };
        assert_eq!([1, 2, 4, 16, 64].map(|workers| of("", workers)), [232, 104, 48, 48, 48]);
        // The fixed memory is 8 blocks of 1 MiB, three times 4 MiB of receive buffers and 4 MiB of log lines.
        assert_eq!(of("[engine]\nmemory_limit = \"56MiB\"\n", 2), 4);
        assert!(check("").unwrap().check_memory(1024).is_ok());
        assert!(check("[engine]\nmemory_limit = \"56MiB\"\n").unwrap().check_memory(2).is_ok());
        for (text, workers, least) in [
            ("[engine]\nmemory_limit = \"55MiB\"\n", 2, "56MiB"),
            ("[engine]\nworkers = 16\nmemory_limit = \"256MiB\"\n", 16, "448MiB"),
            ("[engine]\nmemory_limit = \"16MiB\"\n[queue]\nblock_size = \"16MiB\"\n", 1, "148MiB"),
        ] {
            let error = check(text).unwrap().check_memory(workers).unwrap_err().to_string();
            assert!(error.contains("test.toml:"), "{error}");
            assert!(error.contains("engine.memory_limit: is too small"), "{error}");
            assert!(error.contains(&format!("write at least \"{least}\"")), "{error}");
        }
    }
}
