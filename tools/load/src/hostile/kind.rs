//! Kinds of misbehaving clients: what each sends, and when.

use std::time::Duration;

use clap::ValueEnum;

/// A kind of misbehaving client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A complete transaction, one byte per second.
    Crumbs,
    /// Endless commands after EHLO, without reading a reply.
    NeverReads,
    /// Half a command, then nothing.
    HalfOpen,
    /// Connects, reads the greeting and resets, repeatedly.
    Storm,
    /// 100,000 commands without mail, each after the reply to the previous one.
    Commands,
    /// An endless command line.
    EndlessLine,
    /// An endless header section.
    EndlessHeader,
    /// Ten megabytes of commands at once, as PIPELINING allows.
    Pipeline,
    /// BDAT with fewer bytes than announced, with more, with more than allowed, with an invalid size, and without a size.
    BdatLies,
    /// Resets the connection in each state of a transaction in turn, with DATA and with BDAT.
    Resets,
}

impl Kind {
    /// Returns whether the client reads replies after this number of steps.
    pub(super) const fn reads(self, step: u64) -> bool {
        !matches!(self, Self::NeverReads) || step <= 1
    }

    /// Appends the bytes of a step of the client's `life`th connection. The first step follows the greeting.
    pub(super) fn append(self, step: u64, life: u64, out: &mut Vec<u8>) -> Next {
        let opening = self.opening(life);
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        if let Some(command) = opening.get(step) {
            out.extend_from_slice(command);
            return Next::Asked;
        }
        let step = step - opening.len();
        match self {
            Self::Crumbs => {
                let Some(octet) = TRANSACTION.get(step) else { return Next::Idle };
                out.push(*octet);
                return Next::Rested(Duration::from_secs(1));
            }
            Self::HalfOpen if step == 0 => out.extend_from_slice(b"EH"),
            Self::HalfOpen => return Next::Idle,
            Self::Storm => return Next::Reset,
            Self::NeverReads => (0..GROUP_SIZE).for_each(|number| out.extend_from_slice(command(number))),
            Self::Commands if step == COMMANDS => return Next::Reset,
            Self::Commands => {
                out.extend_from_slice(command(step % GROUP_SIZE));
                return Next::Asked;
            }
            Self::EndlessLine => out.extend_from_slice(&[b'x'; PIECE_SIZE]),
            Self::EndlessHeader => {
                while out.len() < PIECE_SIZE {
                    out.extend_from_slice(b"X-Endless: another one that says nothing, as all before it\r\n");
                }
            }
            Self::Pipeline if step == 0 => {
                let commands = (0..GROUP_SIZE).cycle().map(command);
                for command in commands {
                    out.extend_from_slice(command);
                    if out.len() >= PIPELINE_SIZE {
                        break;
                    }
                }
            }
            Self::Pipeline => return Next::Idle,
            Self::BdatLies => {
                let (first, more) = LIES[in_turn(life, LIES.len())];
                out.extend_from_slice(if step == 0 { first } else { more });
                if out.is_empty() {
                    return Next::Idle;
                }
            }
            Self::Resets => {
                let (_, pieces) = RESETS[in_turn(life, RESETS.len())];
                let Some(piece) = pieces.get(step) else { return Next::Reset };
                out.extend_from_slice(piece);
            }
        }
        Next::Sent
    }

    /// Returns the commands that start a connection, each sent after the reply to the previous one.
    const fn opening(self, life: u64) -> &'static [&'static [u8]] {
        let count = match self {
            Self::Crumbs | Self::HalfOpen | Self::Storm | Self::EndlessLine => 0,
            Self::NeverReads | Self::Commands | Self::Pipeline => 1,
            Self::BdatLies => 3,
            Self::EndlessHeader => 4,
            Self::Resets => RESETS[in_turn(life, RESETS.len())].0,
        };
        OPENING.split_at(count).0
    }
}

/// Action after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send the bytes, and more immediately.
    Sent,
    /// Send the bytes, and more after a pause.
    Rested(Duration),
    /// Send the bytes, and more after a reply.
    Asked,
    /// Send nothing more, and keep the connection.
    Idle,
    /// Reset the connection.
    Reset,
}

/// Returns an index that cycles through a list from one connection to the next.
#[expect(clippy::cast_possible_truncation, reason = "the rest is less than the length")]
const fn in_turn(life: u64, length: usize) -> usize {
    (life % length as u64) as usize
}

/// Returns the command at an index of a group, from 0: MAIL, as many RCPT as servers commonly accept, RSET. Servers end
/// sessions with many commands that do nothing; the group has only one.
const fn command(number: usize) -> &'static [u8] {
    match number {
        0 => MAIL,
        number if number < GROUP_SIZE - 1 => RCPT_LONG,
        _ => b"RSET\r\n",
    }
}

/// Size of a send, in bytes.
const PIECE_SIZE: usize = 64 * 1024;
const PIPELINE_SIZE: usize = 10_000_000;
const COMMANDS: usize = 100_000;
const GROUP_SIZE: usize = 1002;
const OPENING: [&[u8]; 4] = [b"EHLO bad.example\r\n", MAIL, b"RCPT TO:<b@example.com>\r\n", b"DATA\r\n"];
const MAIL: &[u8] = b"MAIL FROM:<a@example.org>\r\n";
const RCPT_LONG: &[u8] =
    b"RCPT TO:<a.name.that.is.as.long.as.a.local.part.may.be.which.is.64.octets@example.com>\r\n";
const TRANSACTION: &[u8] = b"EHLO bad.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n\
    DATA\r\nSubject: slowly\r\n\r\nslowly\r\n.\r\nQUIT\r\n";
/// Bytes that are sent first, and bytes that are sent repeatedly after them.
const LIES: [(&[u8], &[u8]); 5] = [
    (b"BDAT 1000000\r\nnever all of it", b""),
    (b"BDAT 10\r\nmore than ten octets", b"\n\n\n\n\n\n\n\n"),
    (b"BDAT 4294967295 LAST\r\n", &[b'x'; PIECE_SIZE]),
    (b"BDAT 99999999999999999999\r\n", &[b'x'; 1000]),
    (b"BDAT 0\r\n", b"BDAT 0\r\nBDAT 0\r\nBDAT 0\r\nBDAT 0\r\nBDAT 0\r\nBDAT 0\r\nBDAT 0\r\n"),
];
/// Number of opening commands, and what is sent after them.
const RESETS: [(usize, &[&[u8]]); 10] = [
    (0, &[]),
    (1, &[]),
    (2, &[]),
    (3, &[]),
    (4, &[]),
    (4, &[b"Subject: cut\r\n\r\nin the middle"]),
    (4, &[b"Subject: cut\r\n\r\nbefore the end\r\n.\r"]),
    (4, &[b"Subject: cut\r\n\r\nbefore the reply\r\n.\r\n"]),
    (3, &[b"BDAT 1000\r\nin the middle"]),
    (3, &[b"BDAT 23 LAST\r\nSubject: cut\r\n\r\nwhole\r\n"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(kind: Kind, life: u64) -> impl Iterator<Item = (Next, String)> {
        (0..).map(move |step| {
            let mut out = Vec::new();
            let next = kind.append(step, life, &mut out);
            (next, String::from_utf8(out).unwrap())
        })
    }

    #[test]
    fn every_kind_sends_something_or_resets() {
        for kind in Kind::value_variants() {
            let (next, text) = steps(*kind, 1).next().unwrap();
            assert!(next == Next::Reset || !text.is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn resets_occur_in_each_state() {
        let sent = |life| {
            steps(Kind::Resets, life)
                .take_while(|(next, _)| *next != Next::Reset)
                .map(|(_, text)| text)
                .collect::<String>()
        };
        let ends = ["", "example\r\n", "org>\r\n", "com>\r\n", "DATA\r\n", "middle", "\r\n.\r", "\r\n.\r\n"];
        for (life, end) in (0..).zip(ends) {
            assert!(sent(life).ends_with(end), "{life}");
        }
        assert_eq!((sent(0), sent(1)), (String::new(), "EHLO bad.example\r\n".to_owned()));
        assert!(sent(9).ends_with("BDAT 23 LAST\r\nSubject: cut\r\n\r\nwhole\r\n"));
        assert_eq!(sent(10), sent(0));
    }

    #[test]
    fn messages_have_the_size_in_their_name() {
        let commands = steps(Kind::Commands, 0).take_while(|(next, _)| *next == Next::Asked).count();
        assert_eq!(commands, COMMANDS + 1);
        let pipeline: Vec<_> = steps(Kind::Pipeline, 0).skip(1).take(2).collect();
        assert!((PIPELINE_SIZE..PIPELINE_SIZE + 100).contains(&pipeline[0].1.len()));
        assert_eq!(pipeline[1], (Next::Idle, String::new()));
        let local_part = RCPT_LONG.split(|octet| *octet == b'@').next().unwrap();
        assert_eq!(local_part.len() - "RCPT TO:<".len(), 64);
    }
}
