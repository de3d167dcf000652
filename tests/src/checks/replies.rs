//! What holds for whatever a server replies: where its bytes are cut makes no difference, a reply is what a plain look at
//! its lines says, and no reply gets a dialogue to send what it must not.

use mailrace_core::smtp::client::{
    Awaited, Event, Extensions, LINE_SIZE_MAX, Protocol, REPLY_SIZE_MAX, ReplyReader, Session, Violation,
};

use super::front;

/// What a reader makes of an input: each reply's code and lines, or what is invalid.
type Read = Vec<Result<(u16, Vec<Vec<u8>>), (Violation, Vec<u8>)>>;

/// Checks replies: the first byte chooses the protocol, the next three say where the rest is cut.
///
/// # Panics
/// When something does not hold.
pub fn check(bytes: &[u8]) {
    let ([flags, cuts @ ..], bytes) = front::<4>(bytes);
    let whole = read(std::iter::once(bytes));
    let mut cuts = cuts.map(|cut| usize::from(cut) * bytes.len() / 256);
    cuts.sort_unstable();
    let [one, two, three] = cuts;
    let pieces = [&bytes[..one], &bytes[one..two], &bytes[two..three], &bytes[three..]];
    assert_eq!(read(pieces.into_iter()), whole, "cuts change nothing");
    assert_eq!(read(bytes.chunks(1)), whole, "bytes one by one change nothing");
    check_plainly(bytes, &whole);
    converse(bytes, if flags & 1 == 0 { Protocol::Smtp } else { Protocol::Lmtp });
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut reader = ReplyReader::default();
    let mut found = Read::new();
    for mut piece in pieces {
        while let Some(result) = reader.read(&mut piece) {
            found.push(match result {
                Ok(reply) => Ok((reply.code(), reply.lines().map(<[u8]>::to_vec).collect())),
                Err(invalid) => Err((invalid.violation, invalid.got.to_vec())),
            });
        }
        assert!(piece.is_empty(), "all input is consumed");
    }
    found
}

/// Compares with a look at one line after the other.
fn check_plainly(bytes: &[u8], found: &Read) {
    let mut found = found.iter();
    let (mut lines, mut size) = (Vec::new(), 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let is_whole = line.ends_with(b"\n");
        let is_long = line.len() > LINE_SIZE_MAX || (!is_whole && line.len() == LINE_SIZE_MAX);
        if !is_whole && !is_long {
            break;
        }
        size += line.len();
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let has_code = matches!(text, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', rest @ ..] if matches!(rest, [] | [b' ' | b'-', ..]));
        let violation = if is_long {
            Some(Violation::LineTooLong)
        } else if !has_code {
            Some(Violation::NoCode)
        } else {
            (size > REPLY_SIZE_MAX).then_some(Violation::ReplyTooLong)
        };
        if let Some(violation) = violation {
            let Some(Err((reported, got))) = found.next() else { panic!("{violation} is not reported") };
            assert_eq!(*reported, violation);
            assert!(got.len() <= LINE_SIZE_MAX && line.starts_with(got));
            break;
        }
        lines.push(text.to_vec());
        if text.get(3) != Some(&b'-') {
            let code: u16 = std::str::from_utf8(&text[..3]).expect("digits").parse().expect("digits");
            assert_eq!(found.next(), Some(&Ok((code, std::mem::take(&mut lines)))));
            size = 0;
        }
    }
    assert_eq!(found.next(), None, "nothing else is found");
}

/// Sends whatever may be sent after each reply: a command that the session does not allow is a panic.
fn converse(mut bytes: &[u8], protocol: Protocol) {
    let (mut session, mut reader) = (Session::new(protocol), ReplyReader::default());
    let mut out = Vec::new();
    let mut sent = 0;
    while let Some(received) = reader.read(&mut bytes) {
        let awaited = session.awaited();
        let event = session.reply_received(&received);
        if let Ok(reply) = &received {
            let _ = (reply.status(), Extensions::offered_by(reply));
        }
        match event {
            Event::Answer(answered) => assert_eq!(Some(answered), awaited),
            Event::Closing(closing) => assert_eq!(closing, awaited),
            Event::Early | Event::Unsolicited | Event::Invalid(_) => {}
        }
        let is_over = !matches!(event, Event::Answer(_)) || event == Event::Answer(Awaited::Quit);
        assert!(!is_over || !session.may_send(), "nothing is sent after {event:?}");
        if is_over {
            break;
        }
        if session.is_in_content() {
            session.content(b"body\r\n", &mut out);
            session.end_of_data(&mut out);
        }
        while session.may_send() {
            say(&mut session, sent, &mut out);
            sent += 1;
        }
        out.clear();
    }
}

/// Command after command, over and over.
fn say(session: &mut Session, number: usize, out: &mut Vec<u8>) {
    let said = match number % 9 {
        0 => session.hello(b"client.example", out),
        1 => session.mail(b"", b" BODY=8BITMIME", out),
        2 | 3 => session.rcpt(b"user@example.com", b"", out),
        4 => return session.data(out),
        5 => return session.reset(out),
        6 => session.other(b"NOOP", out),
        7 => {
            session.bdat(3, number.is_multiple_of(2), out);
            return session.content(b"abc", out);
        }
        _ => return session.quit(out),
    };
    said.expect("no argument has a line end");
}
