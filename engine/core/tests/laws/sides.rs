//! Both sessions of SMTP with each other: the client's and the server's idea of a transaction is the same.

use mailrace_core::smtp::client::{
    Awaited, DotStuffing, Event as Said, Protocol, ReplyReader, Session as Client,
};
use proptest::prelude::*;

use super::wire::served;

/// A transaction as the client begins it.
#[derive(Clone, Debug)]
struct Mail {
    /// Whether each recipient is in a domain that the server accepts.
    recipients: Vec<bool>,
    lines: Vec<String>,
    /// Sizes of chunks; `None`: DATA.
    chunks: Option<Vec<usize>>,
    is_given_up: bool,
}

prop_compose! {
    fn mail()(
        recipients in prop::collection::vec(any::<bool>(), 1..5),
        lines in prop::collection::vec("[.ab]{0,4}", 0..5),
        chunks in prop::option::of(prop::collection::vec(1..9_usize, 1..4)),
        is_given_up in prop::bool::weighted(0.2),
    ) -> Mail {
        Mail { recipients, lines, chunks, is_given_up }
    }
}

/// A client that sends one group after another, each when the one before is answered.
struct Conversation {
    client: Client,
    /// All that was sent.
    sent: Vec<u8>,
    /// Number of bytes of the server's replies that were read.
    read: usize,
    reader: ReplyReader,
}

impl Conversation {
    /// Gives the server all that was sent so far, and the client the replies to it. Returns what they answer with codes.
    fn exchange(&mut self) -> Vec<(Awaited, u16)> {
        let (replies, _, _) = served([self.sent.as_slice()]);
        let mut new = &replies[self.read..];
        self.read = replies.len();
        let mut answers = Vec::new();
        while let Some(reply) = self.reader.read(&mut new) {
            let code = reply.as_ref().map(|reply| reply.code()).unwrap_or_default();
            match self.client.reply_received(&reply) {
                Said::Answer(awaited) => answers.push((awaited, code)),
                other => panic!("{other:?} to {}", self.sent.escape_ascii()),
            }
        }
        assert!(self.client.is_in_content() || self.client.awaited().is_none(), "all is answered");
        answers
    }

    /// Sends the envelope; returns whether the server accepted a recipient.
    fn envelope(&mut self, mail: &Mail) -> bool {
        self.client.mail(b"a@client.example", b"", &mut self.sent).expect("a path of one line");
        for is_accepted in &mail.recipients {
            let path: &[u8] = if *is_accepted { b"u@example.com" } else { b"u@other.example" };
            self.client.rcpt(path, b"", &mut self.sent).expect("a path of one line");
        }
        let answers = self.exchange();
        assert_eq!(answers.len(), 1 + mail.recipients.len());
        let accepted = mail.recipients.iter().filter(|is_accepted| **is_accepted).count();
        assert!(self.client.is_mail_accepted());
        assert_eq!(self.client.recipients_accepted() as usize, accepted);
        accepted > 0
    }

    /// Sends content and its end; returns the code of the reply to it.
    fn content(&mut self, mail: &Mail) -> u16 {
        let content: String = mail.lines.iter().map(|line| format!("{line}\r\n")).collect();
        match &mail.chunks {
            None => {
                self.client.data(&mut self.sent);
                assert_eq!(self.exchange(), [(Awaited::Data, 354)]);
                let mut stuffed = Vec::new();
                DotStuffing::new().append(content.as_bytes(), &mut stuffed);
                self.client.content(&stuffed, &mut self.sent);
                self.client.end_of_data(&mut self.sent);
            }
            Some(sizes) => {
                let (mut rest, mut sizes) = (content.as_bytes(), sizes.iter().cycle());
                while !rest.is_empty() {
                    let (chunk, after) = rest.split_at(sizes.next().map_or(1, |size| *size).min(rest.len()));
                    self.client.bdat(chunk.len() as u64, false, &mut self.sent);
                    self.client.content(chunk, &mut self.sent);
                    rest = after;
                }
                self.client.bdat(0, true, &mut self.sent);
            }
        }
        assert!(self.client.is_content_unanswered());
        let answers = self.exchange();
        assert!(!self.client.is_content_unanswered());
        let Some((Awaited::Content, code)) = answers.last() else { panic!("{answers:?}") };
        *code
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_agree_on_every_transaction(mails in prop::collection::vec(mail(), 1..4)) {
        let mut conversation = Conversation {
            client: Client::new(Protocol::Smtp), sent: Vec::new(), read: 0, reader: ReplyReader::default(),
        };
        prop_assert_eq!(conversation.exchange(), [(Awaited::Greeting, 220)]);
        conversation.client.hello(b"client.example", &mut conversation.sent).unwrap();
        prop_assert_eq!(conversation.exchange(), [(Awaited::Ehlo, 250)]);
        let mut expected = Vec::new();
        for mail in &mails {
            if conversation.envelope(mail) && !mail.is_given_up {
                prop_assert_eq!(conversation.content(mail), 250);
                expected.push(mail.lines.iter().map(|line| format!("{line}\r\n")).collect::<String>().into_bytes());
            } else {
                conversation.client.reset(&mut conversation.sent);
                prop_assert_eq!(conversation.exchange(), [(Awaited::Reset, 250)]);
            }
        }
        conversation.client.quit(&mut conversation.sent);
        prop_assert_eq!(conversation.exchange(), [(Awaited::Quit, 221)]);
        prop_assert!(!conversation.client.may_send());
        for size in [1, 5, usize::MAX] {
            let (_, messages, is_closed) = served(conversation.sent.chunks(size.min(conversation.sent.len())));
            prop_assert!(is_closed);
            prop_assert_eq!(&messages, &expected, "in pieces of {}", size);
        }
    }
}
