//! Owns what a seed's world is like: sizes, numbers, faults.

use std::sync::Arc;
use std::time::Duration;

use mailrace::worker::WorkerSettings;
use mailrace_core::address::Destinations;
use mailrace_core::{cleanup, smtp};
use mailrace_io::sim::{Conditions, Fault, Faults, Random};
use mailrace_spool as spool;

use super::Bug;
use super::tables::TableManner;

/// What a run is to leave out, so that less happens in it; and the bug that is planted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Faults that do not happen.
    pub without: Vec<Fault>,
    /// Lives at most.
    pub lives: Option<usize>,
    /// Clients of a life at most.
    pub clients: Option<usize>,
    /// What is wrong with the engine.
    pub bug: Option<Bug>,
}

/// What a seed's world is like.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) conditions: Conditions,
    pub(super) faults: Faults,
    pub(super) spool: spool::Settings,
    pub(super) worker: Arc<WorkerSettings>,
    /// Workers and clients of each life.
    pub(super) lives: Vec<(usize, usize)>,
    pub(super) manner: Manner,
    /// Recipients are looked up in such tables.
    pub(super) tables: Option<TableManner>,
    /// Each field and line is looked up, and nothing is found.
    pub(super) has_checks: bool,
    /// Messages that are submitted on the machine in a life at most.
    pub(super) submissions: usize,
    /// The queue is read while the engine runs.
    pub(super) has_readers: bool,
    /// Of a thousand turns of the operator, how many reload.
    pub(super) reloads: u64,
    /// The wall clock begins anew with each life.
    pub(super) clock: Option<Clock>,
    /// Segments empty but for few messages.
    pub(super) is_sparse: bool,
    /// Operators mark messages that are being moved.
    pub(super) marks_moving: bool,
    /// How often operators do something, in microseconds.
    pub(super) operator_period: u64,
    /// How long the keeper of segments and the opener take at most.
    pub(super) service_time: Duration,
}

/// A wall clock that does not know the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// It goes on from where it began.
    Lost,
    /// It stays there.
    Still,
}

/// What clients of a world are like, and what bounds they meet there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Bytes of the largest messages, more or less.
    pub(super) sizes: u64,
    pub(super) message_size_limit: u64,
    /// Recipients of a message at most that a client asks for.
    pub(super) recipients_max: u64,
    /// Recipients of a message at most that a server takes.
    pub(super) recipient_limit: usize,
    /// Many messages have as many.
    pub(super) has_crowds: bool,
    pub(super) header_size_limit: usize,
    /// Bytes of the longest fields, more or less.
    pub(super) field_size: u64,
    pub(super) hopcount_limit: u32,
    /// Recipients are looked up in tables.
    pub(super) has_tables: bool,
    /// No client is made to wait for what others or it itself have done.
    pub(super) is_prompt: bool,
    /// How long a client may be silent before it must be ended, whatever the server has to do besides.
    pub(super) silence_max: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            sizes: 60_000,
            message_size_limit: 1 << 20,
            recipients_max: 30,
            recipient_limit: 1000,
            has_crowds: false,
            header_size_limit: 102_400,
            field_size: 4000,
            hopcount_limit: 50,
            has_tables: false,
            is_prompt: false,
            silence_max: Duration::from_secs(1000),
        }
    }
}

impl Manner {
    fn new(spool: &spool::Settings, is_heavy: bool, random: &mut Random) -> Self {
        let defaults = Self::default();
        let limit = spool.message_size_limit;
        // An envelope has to fit into a batch.
        let recipients_most = (spool.block_size as u64 / 200).min(1200);
        let header_size_limit = if random.one_in(3) { random.magnitude(300, 8000) } else { 102_400 };
        let hopcount_limit = if random.one_in(4) { random.between(2, 8) } else { 50 };
        let recipient_limit =
            if random.one_in(4) { random.between(1, 40) } else { 1000.min(recipients_most) };
        Self {
            sizes: if is_heavy {
                random.magnitude(60_000, 3 << 20)
            } else {
                // A content may be a little larger than it was asked to be.
                random.magnitude(500, 60_000).min(limit - 2000)
            },
            message_size_limit: limit,
            recipients_max: recipients_most.max(4),
            recipient_limit: usize::try_from(recipient_limit).unwrap_or(1),
            header_size_limit: usize::try_from(header_size_limit).unwrap_or(usize::MAX),
            field_size: if is_heavy || random.one_in(6) { 120_000 } else { 6000 },
            hopcount_limit: u32::try_from(hopcount_limit).unwrap_or(50),
            ..defaults
        }
    }
}

impl Plan {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let faults = Faults::new(&mut Random::new(seed, "faults"), &options.without);
        let mut random = Random::new(seed, "plan");
        let random = &mut random;
        // Large messages and envelopes cost time: a share of worlds has them.
        let is_heavy = Random::new(seed, "weight").one_in(HEAVY_SHARE);
        let has_crowds = Random::new(seed, "crowds").one_in(CROWD_SHARE);
        // Many small messages in small segments, of which some are left here and there: those are moved.
        let is_sparse = !is_heavy && Random::new(seed, "sparse").one_in(SPARSE_SHARE);
        let spool = spool_settings(is_heavy, has_crowds, random);
        let mut manner = Manner::new(&spool, is_heavy, random);
        manner.has_crowds = has_crowds;
        if is_sparse {
            manner.sizes = manner.sizes.min(3000);
        }
        let conditions = conditions(&spool, is_heavy, random);
        let worker = worker_settings(&manner, &conditions, random);
        manner.is_prompt = worker.client_allowance.is_zero();
        manner.silence_max = worker.smtpd_timeout * 2 + SILENCE_EXTRA;
        let mut lives = lives(is_heavy, is_sparse, options, random);
        let tables = random.one_in(3).then(|| TableManner {
            delay: (!random.one_in(4)).then(|| Duration::from_micros(random.magnitude(20, 20_000_000))),
            memory_time: Duration::from_millis(random.magnitude(30_000, 1_000_000)),
            failures: if random.one_in(3) { random.magnitude(1, 30) } else { 0 },
        });
        manner.has_tables = tables.is_some();
        lives.truncate(options.lives.unwrap_or(usize::MAX));
        Self {
            conditions,
            faults,
            spool,
            worker: Arc::new(worker),
            lives,
            manner,
            tables,
            submissions: if random.one_in(3) { 1 + random.index(8) } else { 0 },
            has_readers: !is_heavy && Random::new(seed, "readers").one_in(3),
            has_checks: Random::new(seed, "checks").one_in(6),
            reloads: if random.one_in(3) { random.magnitude(1, 200) } else { 0 },
            operator_period: random.magnitude(200, if is_sparse { 20_000 } else { 2_000_000 }),
            clock: {
                let mut random = Random::new(seed, "clock");
                random.one_in(CLOCK_SHARE).then(|| *random.pick(&[Clock::Lost, Clock::Still]))
            },
            is_sparse,
            marks_moving: Random::new(seed, "moving").one_in(2),
            service_time: Duration::from_micros(random.magnitude(50, 500_000)),
        }
    }
}

/// One in this number of worlds has large messages.
const HEAVY_SHARE: u64 = 32;
/// One in this number has messages with hundreds of recipients.
const CROWD_SHARE: u64 = 16;
/// One in this number has small messages in segments that empty.
const SPARSE_SHARE: u64 = 4;
/// One in this number has a machine without its own clock.
const CLOCK_SHARE: u64 = 6;
/// What a client that owes may be made to wait, and what other clients may hold up.
const SILENCE_EXTRA: Duration = Duration::from_secs(400);

/// Returns a number from `low` to `high`, small ones as often as large ones.
fn size(random: &mut Random, low: u64, high: u64) -> usize {
    usize::try_from(random.magnitude(low, high)).unwrap_or(0)
}

fn spool_settings(is_heavy: bool, has_crowds: bool, random: &mut Random) -> spool::Settings {
    let blocks = size(random, 2, 5);
    let block_size = 8192 * size(random, 1, 4);
    let mut settings = spool::Settings {
        segment_size: (64 << 10) * random.magnitude(1, 3),
        spare_segments: size(random, 1, 4),
        kept_segments: random.index(5),
        block_size: block_size.min(32 << 10),
        blocks,
        writes_in_flight: 1 + random.index(blocks - 1),
        queue_minfree: 0,
        message_size_limit: if random.one_in(4) { 40_000 } else { 1 << 20 },
    };
    if has_crowds {
        settings.block_size = 262_144;
        settings.segment_size = 1 << 20;
    }
    if is_heavy {
        settings.block_size = 65_536 * size(random, 1, 4);
        settings.segment_size = (1 << 20) * random.magnitude(1, 4);
        settings.message_size_limit = 10_240_000;
    }
    settings
}

fn conditions(spool: &spool::Settings, is_heavy: bool, random: &mut Random) -> Conditions {
    let mut conditions = Conditions {
        is_direct: !random.one_in(4),
        capacity: if random.one_in(6) {
            spool.segment_size * random.between(3, 12) + (60 << 10)
        } else {
            1 << 30
        },
        receive_buffers: u16::try_from(random.magnitude(1, 64)).unwrap_or(1),
        receive_buffer_size: size(random, 16, 8192),
        send_window: size(random, 512, 16_384),
        slots: size(random, 2, 24),
        latency: Duration::from_micros(random.magnitude(20, 50_000)),
        write_time: Duration::from_micros(random.magnitude(20, 20_000)),
    };
    if is_heavy {
        conditions.receive_buffer_size = size(random, 2048, 32_768);
        conditions.capacity = conditions.capacity.max(64 << 20);
    }
    conditions
}

/// Workers and clients of each life.
fn lives(is_heavy: bool, is_sparse: bool, options: &Options, random: &mut Random) -> Vec<(usize, usize)> {
    let count = 1 + random.index(4);
    let mut lives = Vec::new();
    for _ in 0..count {
        let workers = 1 + random.index(3);
        let clients = match (is_heavy, is_sparse) {
            (true, _) => size(random, 1, 4),
            (_, true) => size(random, 8, 12),
            _ => size(random, 1, 12),
        };
        lives.push((workers, options.clients.map_or(clients, |most| clients.min(most))));
    }
    lives
}

fn worker_settings(manner: &Manner, conditions: &Conditions, random: &mut Random) -> WorkerSettings {
    let destinations = Arc::new(Destinations {
        relay_domains: ["example.com"].into_iter().collect(),
        ..Destinations::default()
    });
    WorkerSettings {
        smtp: smtp::Settings {
            message_size_limit: manner.message_size_limit,
            smtpd_recipient_limit: u32::try_from(manner.recipient_limit).unwrap_or(u32::MAX),
            smtpd_error_sleep_time_ms: u32::try_from(random.magnitude(1, 5000)).unwrap_or(1),
            destinations: Arc::clone(&destinations),
            ..smtp::Settings::default()
        },
        cleanup: cleanup::Settings {
            destinations,
            header_size_limit: manner.header_size_limit,
            hopcount_limit: manner.hopcount_limit,
            ..cleanup::Settings::default()
        },
        smtpd_timeout: Duration::from_secs(random.between(20, 300)),
        drain_timeout: Duration::from_secs(random.between(1, 60)),
        connection_count_limit: if random.one_in(8) { 1 + u32::from(random.one_in(2)) } else { 0 },
        client_allowance: if random.one_in(2) {
            Duration::from_micros(random.magnitude(60, 20_000))
        } else {
            Duration::ZERO
        },
        workers: 1,
        max_connections: conditions.slots - random.index(conditions.slots.min(3)),
        content_memory: usize::try_from(random.magnitude(8_000, 1 << 20)).unwrap_or(usize::MAX),
        log_connections: random.one_in(2),
        ..WorkerSettings::default()
    }
}
