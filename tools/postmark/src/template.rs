//! The content of a load test's messages: built once, then numbered in each copy.

/// A message's content, CRLF line ends, no line that begins with a dot.
#[derive(Debug)]
pub struct Template {
    content: Vec<u8>,
    /// Where the number in Message-Id stands.
    number_at: usize,
}

impl Template {
    /// Content of `size` bytes; at least its header section and one line.
    #[must_use]
    pub fn new(size: usize, sender: &str, recipient: &str) -> Self {
        let head = format!(
            "From: Load Generator <{}>\r\n\
             To: A Recipient <{}>\r\n\
             Subject: Load test message of {size} octets\r\n\
             Date: Tue, 24 Nov 2026 08:00:00 +0000\r\n\
             Message-Id: <",
            sender.replace("{n}", "0"),
            recipient.replace("{n}", "0"),
        );
        let number_at = head.len();
        let mut content = head.into_bytes();
        content.resize(number_at + NUMBER_DIGITS, b'0');
        content.extend_from_slice(
            b".load@load.example.org>\r\n\
              User-Agent: mailrace-load\r\n\
              MIME-Version: 1.0\r\n\
              Content-Type: text/plain; charset=us-ascii\r\n\
              Content-Transfer-Encoding: 7bit\r\n\
              \r\n",
        );
        append_text(&mut content, size);
        Self { content, number_at }
    }

    /// All bytes.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Bytes up to the end of the number.
    #[must_use]
    pub const fn head_length(&self) -> usize {
        self.number_at + NUMBER_DIGITS
    }

    /// Makes the Message-Id of a copy that begins at `start` in `octets` unlike any other's.
    ///
    /// # Panics
    /// When the copy does not reach to [`Template::head_length`].
    pub fn set_number(&self, octets: &mut [u8], start: usize, mut number: u64) {
        let at = start + self.number_at;
        for digit in octets[at..at + NUMBER_DIGITS].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
}

/// Appends lines of text until there are `size` bytes; the last line is at least its line end.
fn append_text(content: &mut Vec<u8>, size: usize) {
    let mut letters = TEXT.iter().cycle();
    loop {
        let room = size.saturating_sub(content.len() + 2);
        // A remainder of one byte would not hold a line end of its own.
        let length =
            if room == TEXT_LINE_LENGTH + 1 { TEXT_LINE_LENGTH - 1 } else { room.min(TEXT_LINE_LENGTH) };
        content.extend(letters.by_ref().take(length));
        content.extend_from_slice(b"\r\n");
        if content.len() >= size {
            break;
        }
    }
}

/// Text without a dot, of a length that shares no factor with a line's, so that lines differ.
const TEXT: &[u8] =
    b"The quick brown fox jumps over the lazy dog, and then sits down to write a letter home \
about it; nobody answers, but the fox does not mind in the least, ";
const TEXT_LINE_LENGTH: usize = 72;
const NUMBER_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_exactly_the_requested_size() {
        let least = Template::new(1, "a@b", "c@d").content().len();
        for size in (least..least + 400).chain([4096, 65_536]) {
            let message = Template::new(size, "a@b", "c@d");
            let content = message.content();
            // The Subject contains the size, so the least size itself varies by its digits.
            assert!(content.len() == size || content.len() < least + 8, "{size} gave {}", content.len());
            assert!(content.ends_with(b"\r\n"));
        }
        assert_eq!(Template::new(4096, "a@b", "c@d").content().len(), 4096);
    }

    #[test]
    fn lines_are_short_and_need_no_dot_stuffing() {
        let message = Template::new(20_000, "sender{n}@example.org", "r{n}@example.com");
        let text = std::str::from_utf8(message.content()).unwrap();
        for line in text.split_terminator("\r\n") {
            assert!(line.len() <= TEXT_LINE_LENGTH, "{line}");
            assert!(!line.starts_with('.'), "{line}");
            assert!(!line.contains(['\r', '\n']));
        }
        assert!(text.starts_with("From: Load Generator <sender0@example.org>\r\n"));
    }

    #[test]
    fn numbers_are_written_in_place() {
        let message = Template::new(1000, "a@b", "c@d");
        let mut octets = b"xx".to_vec();
        octets.extend_from_slice(message.content());
        message.set_number(&mut octets, 2, 4711);
        let text = String::from_utf8(octets).unwrap();
        assert!(text.contains("Message-Id: <0000000000004711.load@load.example.org>\r\n"));
        assert_eq!(text.len(), 1002);
    }
}
