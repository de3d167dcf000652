//! Tracks the dialogue to choose the next fixed reply.

use memchr::memmem;

/// Dialogue with one client.
#[derive(Debug, Default)]
pub struct Dialogue {
    /// End of the last piece that may be part of the end of content.
    tail: Vec<u8>,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum State {
    #[default]
    Command,
    /// Inside a command line with this first byte.
    InLine(u8),
    Content,
    Over,
}

impl Dialogue {
    /// Appends the replies to `octets`. Passes slices of content to `content`, with a flag for the last slice. The slices
    /// may include the final dot.
    pub fn feed(&mut self, mut octets: &[u8], replies: &mut Vec<u8>, mut content: impl FnMut(&[u8], bool)) {
        while !octets.is_empty() {
            octets = match self.state {
                State::Content => self.feed_content(octets, replies, &mut content),
                State::Command | State::InLine(_) => self.feed_line(octets, replies),
                State::Over => return,
            };
        }
    }

    /// Returns whether the client has sent QUIT.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn feed_line<'a>(&mut self, octets: &'a [u8], replies: &mut Vec<u8>) -> &'a [u8] {
        let first = match self.state {
            State::InLine(first) => first,
            _ => octets.first().copied().unwrap_or_default(),
        };
        let Some(at) = memchr::memchr(b'\n', octets) else {
            self.state = State::InLine(first);
            return &[];
        };
        let (reply, state) = match first {
            b'E' => (EHLO, State::Command),
            b'D' => (DATA, State::Content),
            b'Q' => (QUIT, State::Over),
            _ => (OK, State::Command),
        };
        replies.extend_from_slice(reply);
        self.state = state;
        // Content may begin with its final dot, after the line end of the command.
        self.tail.clear();
        self.tail.extend_from_slice(b"\r\n");
        &octets[at + 1..]
    }

    fn feed_content<'a>(
        &mut self,
        octets: &'a [u8],
        replies: &mut Vec<u8>,
        content: &mut impl FnMut(&[u8], bool),
    ) -> &'a [u8] {
        let Some(end) = self.content_end(octets) else {
            content(octets, false);
            let keep = (END.len() - 1).min(octets.len());
            self.tail.extend_from_slice(&octets[octets.len() - keep..]);
            let excess = self.tail.len().saturating_sub(END.len() - 1);
            self.tail.drain(..excess);
            return &[];
        };
        content(&octets[..end], true);
        replies.extend_from_slice(QUEUED);
        self.state = State::Command;
        &octets[end..]
    }

    /// Returns the end of content in `octets`, after the line end of the final dot.
    fn content_end(&self, octets: &[u8]) -> Option<usize> {
        let mut seam = [0; 2 * (END.len() - 1)];
        let head = octets.len().min(END.len() - 1);
        let length = self.tail.len() + head;
        seam[..self.tail.len()].copy_from_slice(&self.tail);
        seam[self.tail.len()..length].copy_from_slice(&octets[..head]);
        memmem::find(&seam[..length], END)
            .map(|at| at + END.len() - self.tail.len())
            .or_else(|| memmem::find(octets, END).map(|at| at + END.len()))
    }
}

/// Greeting.
pub(super) const GREETING: &[u8] = b"220 mx.example.com ESMTP\r\n";
const EHLO: &[u8] = b"250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-VRFY\r\n250-ETRN\r\n\
250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n";
const OK: &[u8] = b"250 2.1.0 Ok\r\n";
const DATA: &[u8] = b"354 End data with <CR><LF>.<CR><LF>\r\n";
const QUEUED: &[u8] = b"250 2.0.0 Ok: queued as 4Wv0c85Xy2zB\r\n";
const QUIT: &[u8] = b"221 2.0.0 Bye\r\n";
const END: &[u8] = b"\r\n.\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the codes of the replies, the bytes of content, and the number of messages.
    fn play(pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>, usize) {
        let mut dialogue = Dialogue::default();
        let (mut replies, mut octets, mut ends) = (Vec::new(), Vec::new(), 0);
        for piece in pieces {
            dialogue.feed(piece, &mut replies, |slice, is_last| {
                octets.extend_from_slice(slice);
                ends += usize::from(is_last);
            });
        }
        let text = String::from_utf8(replies).unwrap();
        let last_lines = text.lines().filter(|line| line.as_bytes()[3] == b' ');
        (last_lines.map(|line| line[..3].to_owned()).collect(), octets, ends)
    }

    #[test]
    fn stays_in_step_however_the_input_is_split() {
        let group = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@c>\r\nDATA\r\nA: b\r\n\r\n.x\r\n..\r\n\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<d@e>\r\n\
            DATA\r\n.\r\nQUIT\r\n";
        let codes: Vec<String> =
            "250 250 250 354 250 250 250 354 250 221".split(' ').map(str::to_owned).collect();
        let whole = play(&[group]);
        assert_eq!(whole, (codes, b"A: b\r\n\r\n.x\r\n..\r\n\r\n.\r\n.\r\n".to_vec(), 2));
        for first in 1..group.len() {
            for second in first..group.len() {
                let pieces = [&group[..first], &group[first..second], &group[second..]];
                assert_eq!(play(&pieces), whole, "cut at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = group.chunks(1).collect();
        assert_eq!(play(&single), whole);
    }
}
