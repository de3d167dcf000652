//! Messages that are recognised wherever they are found: everything in one follows from its identity, so that it can be
//! checked byte for byte, and a piece of it says which message it belongs to.

use std::fmt;

use mailrace_io::sim::Random;

/// Which message of which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The run that sent it.
    pub run: u32,
    /// Which of that run.
    pub number: u32,
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:08x}-{:06}", self.run, self.number)
    }
}

impl Identity {
    /// Of the message that came from this sender.
    #[must_use]
    pub fn of_sender(address: &str) -> Option<Self> {
        Self::parse(address.strip_suffix(DOMAIN)?)
    }

    /// The reverse-path.
    #[must_use]
    pub fn sender(self) -> String {
        format!("{self}{DOMAIN}")
    }

    /// The forward-path.
    #[must_use]
    pub fn recipient(self) -> String {
        format!("{self}@localhost")
    }

    /// Of the message with this content, which begins with a field that tells it.
    #[must_use]
    pub fn of_content(content: &[u8]) -> Option<Self> {
        let rest = content.strip_prefix(FIELD.as_bytes())?;
        let end = rest.iter().position(|byte| *byte == b'\r')?;
        Self::parse(std::str::from_utf8(rest.get(..end)?).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (run, number) = text.split_once('-')?;
        Some(Self { run: u32::from_str_radix(run, 16).ok()?, number: number.parse().ok()? })
    }

    /// The field that content may begin with to tell whose it is.
    #[must_use]
    pub fn field(self) -> String {
        format!("{FIELD}{self}\r\n")
    }

    /// The content, with CRLF: a header section that needs nothing added to it, and a body whose lines all say whose
    /// they are. No line begins with a dot.
    #[must_use]
    pub fn content(self) -> Vec<u8> {
        let mut random = self.random();
        let size = usize::try_from(size(&mut random)).unwrap_or(0);
        let mut content = format!(
            "{}From: {self}@example.org\r\nTo: {self}@localhost\r\nSubject: {self}\r\n\
             Date: Wed, 25 Nov 2026 12:00:00 +0000\r\nMessage-Id: <{self}@example.org>\r\n\r\n",
            self.field()
        );
        let filler = "abcdefghijklmnopqrstuvwxyz0123456789";
        let mut lines: u32 = 0;
        while content.len() < size {
            let length = usize::try_from(random.below(filler.len() as u64)).unwrap_or(0);
            content += &format!("{self} line {lines} {}\r\n", filler.get(..length).unwrap_or_default());
            lines += 1;
        }
        content += &format!("{self} end {lines}\r\n");
        content.into_bytes()
    }

    fn random(self) -> Random {
        Random::new(u64::from(self.run) << 32 | u64::from(self.number), "letter")
    }
}

/// As many small ones as large ones by each factor.
fn size(random: &mut Random) -> u64 {
    let (mut low, mut high) = (SIZE_MIN, SIZE_MAX);
    while high > low * 2 {
        let middle = low * 4;
        if random.percent(30) {
            high = high.min(middle);
        } else {
            low = (low * 2).min(high / 2);
        }
    }
    low + random.below(high - low)
}

/// The name of the field that tells an identity.
const FIELD: &str = "X-Identity: ";
const DOMAIN: &str = "@example.org";
/// Bytes of the smallest message, about.
const SIZE_MIN: u64 = 300;
/// Bytes of the largest.
const SIZE_MAX: u64 = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_round_trips_and_marks_each_line() {
        let identity = Identity { run: 0x0ab1_2cd3, number: 42 };
        assert_eq!(Identity::of_sender(&identity.sender()), Some(identity));
        for other in ["someone@example.org", "0ab12cd3-000042@localhost", ""] {
            assert_eq!(Identity::of_sender(other), None, "{other}");
        }
        assert_eq!(Identity::of_content(&identity.content()), Some(identity));
        assert_eq!(Identity::of_content(b"Subject: X-Identity: 0ab12cd3-000042\r\n\r\n"), None);
        let content = String::from_utf8(identity.content()).unwrap();
        let (_, body) = content.split_once("\r\n\r\n").unwrap();
        assert!(body.lines().all(|line| line.starts_with("0ab12cd3-000042 ")));
    }

    #[test]
    fn messages_are_of_all_sizes() {
        let sizes: Vec<usize> = (0..200).map(|number| Identity { run: 1, number }.content().len()).collect();
        assert!(sizes.iter().any(|size| *size < 700), "{sizes:?}");
        assert!(sizes.iter().filter(|size| **size > 66_000).count() > 10, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size < 201_000), "{sizes:?}");
    }
}
