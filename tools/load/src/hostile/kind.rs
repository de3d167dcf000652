//! Owns the ways to be a bad client: what each sends, and when.

use std::time::Duration;

use clap::ValueEnum;

/// A way to be a bad client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A whole transaction, an octet each second.
    Crumbs,
    /// Commands without end, and no reply is ever read.
    NeverReads,
    /// Half a command, then nothing.
    HalfOpen,
    /// Connects, is greeted, resets, and again.
    Storm,
    /// As many commands without mail as are answered, up to 100,000.
    Commands,
    /// A command line without end.
    EndlessLine,
    /// A header section without end.
    EndlessHeader,
    /// Ten megabytes of commands in one go.
    Pipeline,
    /// BDAT with other sizes than it says.
    BdatLies,
    /// Resets the connection in each state of a transaction in turn.
    Resets,
}

impl Kind {
    /// Whether replies are read.
    pub(super) const fn reads(self) -> bool {
        !matches!(self, Self::NeverReads)
    }

    /// Whether the next octets go out when a reply came; else as soon as the last ones have left.
    pub(super) const fn waits_for_replies(self) -> bool {
        matches!(self, Self::Storm | Self::Commands | Self::Resets)
    }

    /// How long to rest before the next octets.
    pub(super) const fn pace(self) -> Duration {
        match self {
            Self::Crumbs => Duration::from_secs(1),
            _ => Duration::ZERO,
        }
    }

    /// Appends what is sent as the step with this number of the connection that is its client's `life`th.
    pub(super) fn append(self, step: u64, life: u64, out: &mut Vec<u8>) -> Next {
        match self {
            Self::Crumbs => match TRANSACTION.get(usize::try_from(step).unwrap_or(usize::MAX)) {
                Some(octet) => out.push(*octet),
                None => return Next::Idle,
            },
            Self::HalfOpen if step == 0 => out.extend_from_slice(b"EH"),
            Self::HalfOpen => return Next::Idle,
            Self::Storm => return Next::Reset,
            Self::NeverReads | Self::Commands if step == 0 => out.extend_from_slice(EHLO),
            Self::NeverReads => (0..1000).for_each(|_| out.extend_from_slice(b"NOOP\r\n")),
            Self::Commands if step > 100_000 => return Next::Reset,
            Self::Commands => out.extend_from_slice(b"NOOP\r\n"),
            Self::EndlessLine => out.extend_from_slice(&[b'x'; PIECE_SIZE]),
            Self::EndlessHeader if step == 0 => out.extend_from_slice(ENVELOPE),
            Self::EndlessHeader => {
                while out.len() < PIECE_SIZE {
                    out.extend_from_slice(
                        b"X-Endless: and another one that says nothing, as all before it\r\n",
                    );
                }
            }
            Self::Pipeline if step == 0 => out.extend_from_slice(EHLO),
            Self::Pipeline => {
                while out.len() < PIECE_SIZE {
                    out.extend_from_slice(
                        b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@elsewhere.example>\r\nRSET\r\n",
                    );
                }
            }
            Self::BdatLies if step == 0 => {
                out.extend_from_slice(
                    b"EHLO bad.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n",
                );
                let lies: [&[u8]; 3] =
                    [b"BDAT 1000000\r\n", b"BDAT 10\r\nmore than ten octets", b"BDAT 4294967295 LAST\r\n"];
                out.extend_from_slice(lies[usize::try_from(life % 3).unwrap_or(0)]);
            }
            Self::BdatLies => out.extend_from_slice(&[b'\n'; 1024]),
            Self::Resets => {
                // One state later in each life.
                if step >= life % (RESETS.len() as u64 + 1) {
                    return Next::Reset;
                }
                out.extend_from_slice(RESETS[usize::try_from(step).unwrap_or(0)]);
            }
        }
        Next::Sent
    }
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Octets are to be sent.
    Sent,
    /// Nothing more is sent; the connection stays.
    Idle,
    /// The connection is reset.
    Reset,
}

/// Octets that are sent at once.
const PIECE_SIZE: usize = 64 * 1024;
const EHLO: &[u8] = b"EHLO bad.example\r\n";
const ENVELOPE: &[u8] =
    b"EHLO bad.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n";
const TRANSACTION: &[u8] = b"EHLO bad.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n\
    DATA\r\nSubject: slowly\r\n\r\nslowly\r\n.\r\nQUIT\r\n";
const RESETS: [&[u8]; 6] = [
    EHLO,
    b"MAIL FROM:<a@example.org>\r\n",
    b"RCPT TO:<b@example.com>\r\n",
    b"DATA\r\n",
    b"Subject: cut\r\n\r\nin the middle",
    b"\r\n.\r",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_sends_something_or_resets() {
        for kind in Kind::value_variants() {
            let mut out = Vec::new();
            let next = kind.append(0, 1, &mut out);
            assert!(next == Next::Reset || !out.is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn resets_come_in_each_state() {
        for life in 0..14 {
            let mut steps = 0;
            while Kind::Resets.append(steps, life, &mut Vec::new()) == Next::Sent {
                steps += 1;
            }
            assert_eq!(steps, life % 7);
        }
    }
}
