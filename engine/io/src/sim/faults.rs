//! What can go wrong in a simulated world, and how often it does in one.

use super::Random;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A receive brings less than is there.
    ShortReceive,
    /// Bytes take long, and come in pieces.
    SlowNetwork,
    /// All receive buffers are lent out.
    NoBuffers,
    /// A connection is not accepted: no descriptor, or it is gone.
    AcceptRefused,
    /// The network ends a connection.
    LinkLost,
    /// A write takes long.
    SlowDisk,
    /// EIO, with some of the bytes written.
    WriteError,
    /// EIO when reading.
    ReadError,
    /// ENOSPC.
    NoSpace,
    /// EDQUOT.
    Quota,
    /// A flush fails; what was to be flushed may be lost.
    FlushError,
    /// A write is reported as done and never reaches the disk.
    LostWrite,
    /// A write goes to another place.
    MisdirectedWrite,
    /// Bytes change by themselves.
    BitRot,
    /// The process is killed.
    Kill,
    /// The machine loses power: what is in caches is lost, or any part of it.
    PowerCut,
    /// The wall clock jumps, or all time does, as when a machine was suspended.
    ClockJump,
    /// A client falls silent, for longer than it may.
    Stall,
    /// A client goes away, anywhere.
    Vanish,
    /// A client counts wrong, leaves dots unstuffed, sends nonsense.
    Lie,
    /// A client sends commands, lines and fields without end.
    Flood,
    /// A client does not read what it is sent.
    Deaf,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::ShortReceive,
        Self::SlowNetwork,
        Self::NoBuffers,
        Self::AcceptRefused,
        Self::LinkLost,
        Self::SlowDisk,
        Self::WriteError,
        Self::ReadError,
        Self::NoSpace,
        Self::Quota,
        Self::FlushError,
        Self::LostWrite,
        Self::MisdirectedWrite,
        Self::BitRot,
        Self::Kill,
        Self::PowerCut,
        Self::ClockJump,
        Self::Stall,
        Self::Vanish,
        Self::Lie,
        Self::Flood,
        Self::Deaf,
    ];

    /// Its name in commands and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ShortReceive => "short-receive",
            Self::SlowNetwork => "slow-network",
            Self::NoBuffers => "no-buffers",
            Self::AcceptRefused => "accept-refused",
            Self::LinkLost => "link-lost",
            Self::SlowDisk => "slow-disk",
            Self::WriteError => "write-error",
            Self::ReadError => "read-error",
            Self::NoSpace => "no-space",
            Self::Quota => "quota",
            Self::FlushError => "flush-error",
            Self::LostWrite => "lost-write",
            Self::MisdirectedWrite => "misdirected-write",
            Self::BitRot => "bit-rot",
            Self::Kill => "kill",
            Self::PowerCut => "power-cut",
            Self::ClockJump => "clock-jump",
            Self::Stall => "stall",
            Self::Vanish => "vanish",
            Self::Lie => "lie",
            Self::Flood => "flood",
            Self::Deaf => "deaf",
        }
    }

    /// The fault of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Of a hundred worlds, how many have it; and of a million chances, how many it takes there, from and to.
    const fn frequency(self) -> (u64, u64, u64) {
        match self {
            Self::ShortReceive => (50, 50_000, 900_000),
            Self::SlowNetwork => (40, 20_000, 500_000),
            Self::NoBuffers => (40, 5_000, 200_000),
            Self::AcceptRefused => (30, 20_000, 300_000),
            Self::LinkLost => (25, 1_000, 30_000),
            Self::SlowDisk => (40, 10_000, 500_000),
            Self::WriteError | Self::FlushError => (25, 3_000, 200_000),
            Self::ReadError => (10, 1_000, 50_000),
            Self::NoSpace | Self::Quota => (15, 3_000, 300_000),
            Self::LostWrite | Self::MisdirectedWrite | Self::BitRot => (7, 3_000, 50_000),
            // Of lives.
            Self::Kill | Self::PowerCut => (70, 200_000, 700_000),
            // Of turns of the schedule.
            Self::ClockJump => (30, 100, 5_000),
            // Of clients.
            Self::Stall | Self::Vanish | Self::Lie | Self::Flood | Self::Deaf => (35, 30_000, 400_000),
        }
    }
}

/// The mix of faults of one world. Each world has its own: with all faults at once in each, some would never meet
/// alone (swarm testing).
#[derive(Clone, Debug)]
pub struct Faults {
    /// Of a million chances, by fault.
    rates: [u32; Fault::ALL.len()],
    counts: [u64; Fault::ALL.len()],
    are_off: bool,
}

impl Faults {
    /// The mix of a seed, without some.
    #[must_use]
    pub fn new(random: &mut Random, without: &[Fault]) -> Self {
        let rates = Fault::ALL.map(|fault| {
            let (worlds, low, high) = fault.frequency();
            let (is_here, rate) = (random.below(100) < worlds, random.magnitude(low, high));
            let rate = if is_here && !without.contains(&fault) { rate } else { 0 };
            u32::try_from(rate).unwrap_or(u32::MAX)
        });
        Self { rates, counts: [0; Fault::ALL.len()], are_off: false }
    }

    /// Whether it happens in this world.
    #[must_use]
    pub const fn has(&self, fault: Fault) -> bool {
        self.rates[fault as usize] > 0
    }

    /// Whether it happens now. Whatever the answer, one number is drawn.
    pub fn strikes(&mut self, fault: Fault, random: &mut Random) -> bool {
        let is_hit = random.below(1_000_000) < u64::from(self.rates[fault as usize]) && !self.are_off;
        self.counts[fault as usize] += u64::from(is_hit);
        is_hit
    }

    /// Ends or resumes all faults; returns whether they had ended.
    pub const fn set_off(&mut self, are_off: bool) -> bool {
        std::mem::replace(&mut self.are_off, are_off)
    }

    /// How often each happened.
    #[must_use]
    pub const fn counts(&self) -> &[u64; Fault::ALL.len()] {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(Fault::parse(fault.name()), Some(fault));
            assert_eq!(fault as usize, index);
        }
    }

    #[test]
    fn what_is_left_out_leaves_the_rest_as_it_was() {
        let all = Faults::new(&mut Random::new(3, "faults"), &[]);
        let some = Faults::new(&mut Random::new(3, "faults"), &[Fault::ShortReceive]);
        assert_eq!(all.rates[1..], some.rates[1..]);
        assert_eq!(some.rates[0], 0);
    }
}
