//! Owns the messages that simulated clients send: each tells its number in its header section and in every line.

use mailrace_io::sim::Random;

/// A message as its client means it.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) sender: String,
    pub(super) recipients: Vec<String>,
    /// The content as it has to stand in the queue, behind the trace field.
    pub(super) content: Vec<u8>,
    /// Octets of its header section, with the empty line.
    pub(super) header_size: usize,
}

impl Message {
    /// Message `number`, of about `size` octets.
    pub(super) fn new(number: usize, size: usize, random: &mut Random) -> Self {
        let count = if random.one_in(12) { random.between(5, 30) } else { random.between(1, 3) };
        let recipients = (0..count).map(|index| format!("u{number}-{index}@example.com")).collect();
        let mut content = format!("{NUMBER_FIELD}{number}\r\nSubject: message {number}\r\n");
        if random.one_in(4) {
            content.push_str("X-Folded: of several\r\n\tlines, ");
            content.push_str(&"and long ".repeat(random.index(60)));
            content.push_str("\r\n");
        }
        content.push_str("\r\n");
        let mut content = content.into_bytes();
        let header_size = content.len();
        let mut line = 0;
        while content.len() < size {
            // Dots at the front of lines are what clients have to stuff.
            let dots = ["", "", "", ".", "..", "...x"][random.index(6)];
            content.extend_from_slice(format!("{dots}{number} {line} ").as_bytes());
            let length = random.index(120);
            content.extend_from_slice(&TEXT[..length]);
            content.extend_from_slice(b"\r\n");
            line += 1;
        }
        let sender = if random.one_in(10) { String::new() } else { format!("s{number}@client.example") };
        Self { sender, recipients, content, header_size }
    }

    /// The content as it goes over the wire with DATA, its end included.
    pub(super) fn stuffed(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.content.len() + 64);
        for line in self.content.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b".\r\n");
        wire
    }

    /// Makes it what a server has to take it for when its dots are not stuffed; returns what goes over the wire, and
    /// where in that the content ends.
    pub(super) fn leave_unstuffed(&mut self) -> (Vec<u8>, usize) {
        let mut wire = std::mem::take(&mut self.content);
        wire.extend_from_slice(b".\r\n");
        let mut end = 0;
        for line in wire.split_inclusive(|octet| *octet == b'\n') {
            end += line.len();
            if line == b".\r\n" {
                break;
            }
            self.content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        (wire, end)
    }

    /// Makes it what a server has to take it for when a client says that it has only `size` octets.
    pub(super) fn cut(&mut self, size: usize) {
        self.content.truncate(size);
        if !self.content.ends_with(b"\r\n") {
            while self.content.last() == Some(&b'\r') {
                self.content.pop();
            }
            self.content.extend_from_slice(b"\r\n");
        }
    }

    /// The number of the message whose content this is, behind the trace field.
    pub(super) fn number_of(content: &[u8]) -> Option<usize> {
        let digits = content.strip_prefix(NUMBER_FIELD.as_bytes())?;
        let end = digits.iter().position(|octet| *octet == b'\r')?;
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    }
}

/// The first field, up to the number.
const NUMBER_FIELD: &str = "X-Number: ";
const TEXT: &[u8; 120] =
    b"The quick brown fox jumps over the lazy dog, and the dog does not mind; it has seen foxes before, as many as \
there are..";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unstuffed_dots_lose_one_or_end_it() {
        let mut message = Message::new(7, 0, &mut Random::new(1, "message"));
        message.content = b"..a\r\n.b\r\n.\r\nrest\r\n".to_vec();
        assert_eq!(message.stuffed(), b"...a\r\n..b\r\n..\r\nrest\r\n.\r\n");
        assert_eq!(message.leave_unstuffed(), (b"..a\r\n.b\r\n.\r\nrest\r\n.\r\n".to_vec(), 12));
        assert_eq!(message.content, b".a\r\nb\r\n");
    }

    #[test]
    fn a_message_tells_its_number() {
        let message = Message::new(4711, 3000, &mut Random::new(1, "message"));
        assert_eq!(Message::number_of(&message.content), Some(4711));
        assert!(
            message.content.len() >= 3000
                && message.content[message.header_size - 4..].starts_with(b"\r\n\r\n")
        );
    }
}
