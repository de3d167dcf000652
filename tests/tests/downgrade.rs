//! Real Postfix sends each message to a server with 8BITMIME and to one without. What the second server receives must be
//! what Mailrace makes of what the first one received.
//!
//! Needs the Debian package postfix, and root to start a private instance; skipped loudly without.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use mailrace_core::smtp::client::{DotStuffing, Downgrade};
use mailrace_peers::{Peer, Postfix, Setting};
use mailrace_tests::{Client, Directory, has_postfix};

const TYPES: [&str; 8] = [
    "",
    "Content-Type: text/plain; charset=utf-8\r\n",
    "Content-Type: multipart/mixed; boundary=b\r\n",
    "Content-Type: multipart/digest;\r\n\tboundary=\"b\"; boundary=c\r\n",
    "Content-Type: message/rfc822\r\n",
    "Content-Type: message/global\r\n",
    "Content-Type: image/png\r\nSubject: \u{fc}\r\n",
    DELIVERY_STATUS,
];

/// Its label differs from Postfix's on purpose.
const DELIVERY_STATUS: &str = "Content-Type: message/delivery-status\r\n";

const ENCODINGS: [&str; 6] = [
    "",
    EIGHT_BIT,
    BINARY,
    "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: x-other\r\n",
    "Content-Transfer-Encoding: quoted-printable\r\n",
    "Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: base64\r\n",
];

const EIGHT_BIT: &str = "Content-Transfer-Encoding: 8bit\r\n";
const BINARY: &str = "content-transfer-encoding :\r\n (c) BINARY\r\nX-A: b\r\n";

/// What follows the header section, with the line that ends it.
fn bodies() -> Vec<String> {
    let (full, more) = ("x".repeat(72), "y".repeat(2047));
    let part = "Content-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}n = \t\r\n";
    vec![
        "\r\n\u{fc}\0\u{1}\u{7f} = \r\n.\r\n \r\n-\r\n--\r\n--x\r\n\t\r\nFrom x\r\n".to_owned(),
        format!("\r\n{full}\r\n{full} \r\n{full}  \r\n{full}=\r\n{full}x=\r\n{more}\u{fc}--b{more} \r\n"),
        format!(
            "\r\npre \u{fc}\r\n--b\r\n{part}--b and\r\n\r\n\u{fc}\r\n--c\r\n{part}--b--\r\nepi \u{fc}\r\n"
        ),
        format!(
            "\r\n--b\r\n{part}--b\r\nContent-Type: multipart/x; boundary=d\r\n{part}--d\r\n{part}--bc\r\n\r\n{part}"
        ),
        format!("\r\nX-B : \u{fc}\r\n\tfolded\r\n{part}--b\r\nno field\r\n{part}"),
        format!("no field \u{fc} =\r\n{part}"),
        String::new(),
    ]
}

/// Accepts messages, one connection at a time. Sends the content of each, without stuffed dots, to the receiver.
fn serve(keyword: &'static str) -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || listener.incoming().for_each(|stream| session(&stream.unwrap(), keyword, &sender)));
    (address, receiver)
}

fn session(mut stream: &TcpStream, keyword: &str, contents: &Sender<Vec<u8>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).split(b'\n').map(Result::unwrap);
    let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
    say("220 next.example ESMTP");
    while let Some(command) = lines.next() {
        match command.get(..4).unwrap() {
            b"EHLO" => say(&format!("250-next.example\r\n250 {keyword}")),
            b"DATA" => {
                say("354 Go");
                let text = lines.by_ref().take_while(|line| line != b".\r");
                let content = text.flat_map(|mut line| {
                    line.push(b'\n');
                    line.split_off(usize::from(line.starts_with(b".")))
                });
                contents.send(content.collect()).unwrap();
                say("250 2.0.0 Ok");
            }
            b"QUIT" => return,
            _ => say("250 2.0.0 Ok"),
        }
    }
}

#[test]
fn content_is_converted_as_by_postfix() {
    if !has_postfix() {
        return;
    }
    let directory = Directory::new();
    let setting = Setting { directory: directory.path().to_path_buf(), cpu: None, congestion_control: None };
    let ((eight, given), (seven, converted)) = (serve("8BITMIME"), serve("ENHANCEDSTATUSCODES"));
    let transports =
        |domain, address: SocketAddr| format!("{{{domain} = smtp:[127.0.0.1]:{}}}", address.port());
    let lines = format!(
        "relay_domains = eight.example seven.example\nsmtp_line_length_limit = 0\n\
         transport_maps = inline:{{{}, {}}}\n",
        transports("eight.example", eight),
        transports("seven.example", seven),
    );
    let postfix = Postfix::start_delivering(&setting, &lines).unwrap();
    let bodies = bodies();
    let mut different = 0;
    for (kind, encoding) in TYPES.iter().flat_map(|kind| ENCODINGS.map(|encoding| (*kind, encoding))) {
        for body in &bodies {
            let content = format!("From: a@example.org\r\n{encoding}{kind}{body}");
            // One message for each, so that only the recipient's domain differs.
            let mut client = Client::introduced(postfix.address());
            client.say("MAIL FROM:<a@example.org>", "250 ");
            client.say("RCPT TO:<b@eight.example>", "250 ");
            client.say("RCPT TO:<b@seven.example>", "250 ");
            client.say("DATA", "354 ");
            let mut stuffed = Vec::new();
            DotStuffing::new().append(content.as_bytes(), &mut stuffed);
            stuffed.extend_from_slice(b".\r\n");
            client.send(&stuffed);
            client.expect("250 ");
            let [given, theirs] =
                [&given, &converted].map(|it| it.recv_timeout(Duration::from_secs(60)).unwrap());
            let (mut downgrade, mut ours) = (Downgrade::new(), Vec::new());
            given.chunks(100).for_each(|piece| downgrade.append(piece, &mut ours).unwrap());
            downgrade.end(&mut ours).unwrap();
            different += usize::from(given != theirs);
            let mut theirs = theirs.escape_ascii().to_string();
            if kind == DELIVERY_STATUS && [EIGHT_BIT, BINARY].contains(&encoding) {
                let name = "Content-Transfer-Encoding:";
                theirs = theirs.replacen(&format!("{name} 7bit"), &format!("{name} quoted-printable"), 1);
            }
            assert_eq!(ours.escape_ascii().to_string(), theirs, "{}", given.escape_ascii());
        }
    }
    assert!(different > 100, "Postfix converted only {different}");
}
