//! The load generator against a small server that notes what it was told, and answers as the case wants.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// What the server saw.
#[derive(Default)]
struct Seen {
    commands: Vec<String>,
    contents: Vec<Vec<u8>>,
    clients: Vec<IpAddr>,
    /// Commands that were there before the server answered the one before.
    pipelined: usize,
}

/// How it answers: a verb or a whole command, and the reply that is to be given instead of the usual one.
type Answers = &'static [(&'static str, &'static str)];

fn server(answers: Answers) -> (SocketAddr, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, seen) = (stream.unwrap(), Arc::clone(&shared));
            seen.lock().unwrap().clients.push(stream.peer_addr().unwrap().ip());
            std::thread::spawn(move || serve(stream, answers, &seen));
        }
    });
    (address, seen)
}

/// Ends with the connection, however that ends.
fn serve(stream: TcpStream, answers: Answers, seen: &Mutex<Seen>) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut input = BufReader::new(stream);
    out.write_all(b"220-mx\r\n220 mx ready\r\n").ok()?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let command = line.trim_end().to_owned();
        let verb = command.split(' ').next().unwrap_or_default().to_owned();
        {
            let mut seen = seen.lock().unwrap();
            seen.commands.push(command.clone());
            seen.pipelined += usize::from(!input.buffer().is_empty());
        }
        if verb == "BDAT" {
            let size: usize = command.split(' ').nth(1)?.parse().ok()?;
            let mut content = vec![0; size];
            input.read_exact(&mut content).ok()?;
            seen.lock().unwrap().contents.push(content);
        }
        let usual = match verb.as_str() {
            "EHLO" => "250-mx\r\n250-PIPELINING\r\n250 CHUNKING",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        let reply =
            answers.iter().find(|(of, _)| *of == verb || *of == command).map_or(usual, |(_, reply)| reply);
        out.write_all(format!("{reply}\r\n").as_bytes()).ok()?;
        if verb == "QUIT" || reply.starts_with("421") {
            return None;
        }
        if reply.starts_with("354") {
            let content = read_content(&mut input)?;
            seen.lock().unwrap().contents.push(content);
            let end = answers.iter().find(|(of, _)| *of == ".").map_or("250 queued", |(_, reply)| reply);
            out.write_all(format!("{end}\r\n").as_bytes()).ok()?;
        }
    }
}

fn read_content(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        if input.read_until(b'\n', &mut content).ok()? == 0 {
            return None;
        }
        if &content[start..] == b".\r\n" {
            content.truncate(start);
            return Some(content);
        }
    }
}

/// Runs a load; its exit status and its JSON.
fn load(address: SocketAddr, arguments: &str) -> (i32, serde_json::Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_mailrace-load"))
        .arg(address.to_string())
        .args(arguments.split_whitespace())
        .arg("--json")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
    (output.status.code().unwrap(), json)
}

fn verbs(seen: &Seen) -> Vec<String> {
    seen.commands.iter().map(|command| command.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn each_command_waits_for_its_reply_without_pipelining() {
    let (address, seen) = server(&[]);
    let (status, report) = load(
        address,
        "-c 1 -m 2 -p 2 --recipients 2 --size 1000 --recipient r{n}@example.com --sender s{n}@x",
    );
    let seen = seen.lock().unwrap();
    assert_eq!(status, 0);
    assert_eq!(report["messages"], 2);
    assert_eq!(seen.pipelined, 0);
    assert_eq!(
        seen.commands,
        [
            "EHLO load.example.org",
            "MAIL FROM:<s0@x>",
            "RCPT TO:<r0@example.com>",
            "RCPT TO:<r1@example.com>",
            "DATA",
            "MAIL FROM:<s1@x>",
            "RCPT TO:<r2@example.com>",
            "RCPT TO:<r3@example.com>",
            "DATA",
            "QUIT"
        ]
    );
    assert!(seen.contents.iter().all(|content| content.len() == 1000));
    assert_ne!(seen.contents[0], seen.contents[1], "Message-Ids differ");
    assert_eq!(report["latency_us"]["end_of_data"]["count"], 2);
    assert_eq!(report["connections"], 1);
}

#[test]
fn a_pipelined_group_follows_the_content_before_it() {
    let (address, seen) = server(&[]);
    let (status, report) = load(address, "-c 1 -m 3 -p 0 --pipelining --sizes 500,300K");
    let seen = seen.lock().unwrap();
    assert_eq!((status, report["messages"].as_u64()), (0, Some(3)));
    let one = ["MAIL", "RCPT", "DATA"];
    let expected: Vec<&str> = ["EHLO"].into_iter().chain(one).chain(one).chain(one).chain(["QUIT"]).collect();
    assert_eq!(verbs(&seen), expected);
    assert!(seen.pipelined >= 4, "{}", seen.pipelined);
    let sizes: Vec<usize> = seen.contents.iter().map(Vec::len).collect();
    assert_eq!(sizes, [500, 300 << 10, 500]);
}

#[test]
fn chunks_have_exactly_the_announced_size() {
    for pipelining in ["", "--pipelining"] {
        let (address, seen) = server(&[]);
        let (status, report) = load(address, &format!("-c 2 -m 6 -p 3 --bdat --sizes 700,400K {pipelining}"));
        let seen = seen.lock().unwrap();
        assert_eq!((status, report["messages"].as_u64()), (0, Some(6)));
        let mut sizes: Vec<usize> = seen.contents.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [700, 700, 700, 400 << 10, 400 << 10, 400 << 10]);
        assert!(
            seen.contents.iter().all(|content| content.starts_with(b"From: ") && content.ends_with(b"\r\n"))
        );
    }
}

#[test]
fn uses_only_extensions_that_the_server_offers() {
    let (address, seen) = server(&[("EHLO", "250-mx\r\n250 SIZE 1000000")]);
    let (status, report) = load(address, "-c 1 -m 3 -p 0 --pipelining --bdat --recipients 2");
    let seen = seen.lock().unwrap();
    assert_eq!((status, report["messages"].as_u64()), (0, Some(3)));
    assert_eq!(seen.pipelined, 0);
    let one = ["MAIL", "RCPT", "RCPT", "DATA"];
    let expected: Vec<&str> = ["EHLO"].into_iter().chain(one).chain(one).chain(one).chain(["QUIT"]).collect();
    assert_eq!(verbs(&seen), expected);
    assert_eq!(report["without"], serde_json::json!({ "ehlo": 0, "pipelining": 1, "chunking": 1 }));
}

#[test]
fn sends_helo_to_a_server_without_extensions() {
    for refusal in ["500 what", "502 5.5.1 not here", "550 no"] {
        let answers: Answers = match refusal {
            "500 what" => &[("EHLO", "500 what")],
            "502 5.5.1 not here" => &[("EHLO", "502-5.5.1 not\r\n502 5.5.1 here")],
            _ => &[("EHLO", "550 no"), ("HELO", "250-PIPELINING\r\n250 CHUNKING")],
        };
        let (address, seen) = server(answers);
        let (status, report) = load(address, "-c 1 -m 2 -p 0 --pipelining --bdat --helo client.example");
        let seen = seen.lock().unwrap();
        assert_eq!((status, report["messages"].as_u64()), (0, Some(2)), "{report}");
        assert_eq!(seen.commands[..2], ["EHLO client.example", "HELO client.example"]);
        assert_eq!((verbs(&seen)[2..5].join(" "), seen.pipelined), ("MAIL RCPT DATA".to_owned(), 0));
        assert_eq!(report["without"]["ehlo"], 1);
    }
    let (address, _) = server(&[("EHLO", "502 no"), ("HELO", "502 no")]);
    let (status, report) = load(address, "-c 1 -m 2 --patience 200ms");
    assert_eq!((status, &report["end"]), (1, &"gave_up".into()));
}

#[test]
fn recipients_are_refused_one_by_one() {
    for arguments in ["", "--pipelining", "--bdat", "--bdat --pipelining"] {
        let (address, seen) =
            server(&[("RCPT TO:<r1@x>", "550 5.1.1 no"), ("RCPT TO:<r5@x>", "452 4.5.3 later")]);
        let (status, report) =
            load(address, &format!("-c 1 -m 2 -p 0 --recipients 3 --recipient r{{n}}@x {arguments}"));
        assert_eq!(report["recipients"], serde_json::json!({ "accepted": 4, "refused": 2 }), "{report}");
        assert_eq!((status, &report["messages"], &report["failed"]), (1, &2.into(), &0.into()), "{report}");
        assert!(seen.lock().unwrap().contents.iter().all(|content| content.len() == 4096));
    }
}

#[test]
fn counts_refusals_and_continues_on_the_connection() {
    let cases: [(Answers, &str, &str); 5] = [
        (&[("MAIL", "450 4.1.0 later")], "450", "-p 0"),
        (&[("RCPT", "550 5.1.1 nobody")], "550", "-p 0"),
        (&[("DATA", "451 4.3.0 no")], "451", "-p 0"),
        (&[(".", "452 4.3.1 full")], "452", "-p 0"),
        // 354 without a recipient: only the end may be sent.
        (&[("RCPT", "550 5.1.1 nobody"), (".", "554 5.5.1 no valid recipients")], "550", "-p 0 --pipelining"),
    ];
    for (answers, code, arguments) in cases {
        let (address, seen) = server(answers);
        let (status, report) = load(address, &format!("-c 1 -m 4 {arguments}"));
        assert_eq!(status, 1, "{answers:?}");
        assert_eq!(report["messages"], 0, "{answers:?}");
        assert_eq!(report["failed"], 4, "{answers:?}");
        assert_eq!(report["unexpected"][code]["count"], 4, "{answers:?}");
        let is_of_recipients = answers[0].0 == "RCPT";
        assert_eq!(report["recipients"]["refused"], if is_of_recipients { 4 } else { 0 }, "{answers:?}");
        assert_eq!(report["connections"], 1, "{answers:?}");
        assert_eq!(verbs(&seen.lock().unwrap()).last().unwrap(), "QUIT", "{answers:?}");
        if arguments.ends_with("--pipelining") {
            assert!(seen.lock().unwrap().contents.iter().all(Vec::is_empty));
        }
    }
}

#[test]
fn connects_from_the_requested_addresses() {
    let (address, seen) = server(&[]);
    let (status, report) = load(address, "-c 1 -m 6 -p 2 --source 127.65.0.8/31");
    assert_eq!((status, report["connections"].as_u64()), (0, Some(3)));
    let expected: Vec<IpAddr> = [8, 9, 8].map(|last| [127, 65, 0, last].into()).to_vec();
    assert_eq!(seen.lock().unwrap().clients, expected);
}

#[test]
fn a_lost_connection_loses_its_message_and_is_replaced() {
    let (address, _) = server(&[("DATA", "421 4.3.2 going down")]);
    let (status, report) = load(address, "-c 1 -m 3 -p 0");
    assert_eq!(status, 1);
    assert_eq!(report["failed"], 3);
    assert_eq!(report["connections_lost"], 3);
    assert_eq!(report["connections"], 3);
}

#[test]
fn opens_no_connection_without_a_message_to_send() {
    let (address, seen) = server(&[]);
    let (status, report) = load(address, "-c 4 -m 10");
    assert_eq!((status, report["messages"].as_u64()), (0, Some(10)));
    assert_eq!(report["connections"], 10);
    assert_eq!(seen.lock().unwrap().contents.len(), 10);
}

#[test]
fn slow_content_is_sent_at_the_rate() {
    let (address, seen) = server(&[]);
    let (status, report) = load(address, "--slow 3 --size 20K --rate 50K");
    assert_eq!(status, 0);
    assert_eq!(report["messages"], 3);
    assert!(report["seconds"].as_f64().unwrap() >= 0.3, "{report}");
    assert!(seen.lock().unwrap().contents.iter().all(|content| content.len() == 20 << 10));
}

#[test]
fn idle_connections_send_only_ehlo() {
    let (address, seen) = server(&[]);
    let (status, report) = load(address, "--idle 5 --duration 300ms");
    assert_eq!(status, 0);
    assert_eq!(report["connections"], 5);
    assert_eq!(verbs(&seen.lock().unwrap()), ["EHLO"; 5]);
}

#[test]
fn fails_if_no_server_listens() {
    let (status, report) = load("127.0.0.1:1".parse().unwrap(), "-c 1 -m 1");
    assert_eq!(status, 1);
    assert_eq!(report["messages"], 0);
}
