//! The load generator against servers that refuse, hang, talk nonsense or are gone, at each stage of the dialogue: it
//! ends by itself, with a bounded number of connections, and always with its report.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What the server does instead of giving its usual reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Reply(&'static str),
    /// It keeps the connection and says nothing.
    Silence,
    /// It says this, without a line end, and then nothing.
    Part(&'static str),
    Close,
    Reset,
    /// It says this without end.
    Flood(&'static str),
}

/// The stages as reports name them.
const STAGES: [&str; 7] = ["greeting", "ehlo", "mail", "rcpt", "data", "end_of_data", "quit"];

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// A word for each connection.
    made: Receiver<()>,
}

/// A server with this fault at this stage.
fn server(stage: &'static str, fault: Fault) -> Server {
    serving(move |stream| serve(stream, &|at| (at == stage).then_some(fault)))
}

fn serving(serve: impl Fn(TcpStream) -> Option<()> + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (tell, made) = mpsc::channel();
    let (counted, serve) = (Arc::clone(&connections), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = tell.send(());
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    Server { address, connections, made }
}

/// Serves one client to its end; `None` when the connection failed.
fn serve(stream: TcpStream, fault: &dyn Fn(&str) -> Option<Fault>) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut input = BufReader::new(stream);
    answer(&mut out, fault("greeting"), "220 mx")?;
    let mut line = String::new();
    loop {
        line.clear();
        if input.read_line(&mut line).ok()? == 0 {
            return Some(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_lowercase();
        let (stage, usual) = match verb.as_str() {
            "ehlo" => ("ehlo", "250-mx\r\n250-PIPELINING\r\n250 CHUNKING"),
            "data" => ("data", "354 go"),
            "quit" => ("quit", "221 bye"),
            other => (other, "250 ok"),
        };
        answer(&mut out, fault(stage), usual)?;
        if verb == "quit" {
            return Some(());
        }
        if verb == "data" && fault("data").is_none() {
            while line != ".\r\n" {
                line.clear();
                if input.read_line(&mut line).ok()? == 0 {
                    return Some(());
                }
            }
            answer(&mut out, fault("end_of_data"), "250 queued")?;
        }
    }
}

fn answer(out: &mut TcpStream, fault: Option<Fault>, usual: &str) -> Option<()> {
    match fault {
        None => out.write_all(format!("{usual}\r\n").as_bytes()).ok(),
        Some(Fault::Reply(reply)) => {
            out.write_all(format!("{reply}\r\n").as_bytes()).ok()?;
            (!reply.starts_with("421")).then_some(())
        }
        Some(Fault::Silence) => wait_for_end(out),
        Some(Fault::Part(part)) => {
            out.write_all(part.as_bytes()).ok()?;
            wait_for_end(out)
        }
        Some(Fault::Close) => None,
        Some(Fault::Reset) => {
            let socket = socket2::SockRef::from(&*out);
            socket.set_linger(Some(Duration::ZERO)).ok()?;
            None
        }
        Some(Fault::Flood(text)) => {
            let text = text.repeat(1000);
            loop {
                out.write_all(text.as_bytes()).ok()?;
            }
        }
    }
}

fn wait_for_end(stream: &mut TcpStream) -> Option<()> {
    std::io::copy(stream, &mut std::io::sink()).ok()?;
    None
}

/// Runs a case for each of these at the same time.
fn at_all<T: Copy + Send>(all: &[T], case: impl Fn(T) + Copy + Send) {
    std::thread::scope(|scope| {
        for one in all.iter().copied() {
            scope.spawn(move || case(one));
        }
    });
}

/// A load under way; killed when a test fails.
struct Load(Child);

impl Load {
    fn start(address: SocketAddr, arguments: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_mailrace-load"))
            .arg(address.to_string())
            .args(arguments.split_whitespace())
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Waits until it has ended by itself: its status and its report. One that does not end is killed, and has no report.
    fn end(mut self) -> (i32, Value) {
        let pid = Pid::from_child(&self.0);
        let (ended, is_ended) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if is_ended.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = self.0.wait().unwrap();
        drop(ended);
        (status.code().expect("it does not end"), serde_json::from_str(&text).unwrap())
    }

    fn signal(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SHORT: &str = "-c 2 -m 8 --timeout 300ms --patience 300ms";

#[test]
fn terminates_after_any_failure_at_any_stage() {
    let faults = [
        (Fault::Reply("421 busy"), "421"),
        (Fault::Silence, "timeout"),
        (Fault::Part("250 no line end"), "timeout"),
        (Fault::Part("250-more to come\r\n250-"), "timeout"),
        (Fault::Close, "closed"),
        (Fault::Reset, "reset"),
        (Fault::Reply("what is this"), "garbage"),
        (Fault::Reply("\0\0\0"), "garbage"),
        (Fault::Reply("2\u{0}0 ok"), "garbage"),
        (Fault::Reply(""), "garbage"),
        (Fault::Flood("250-another line\r\n"), "garbage"),
        (Fault::Flood("a line without end "), "garbage"),
    ];
    let fail_at = |stage: &'static str| {
        for (fault, class) in faults {
            let server = server(stage, fault);
            let (status, report) = Load::start(server.address, SHORT).end();
            let errors = &report["errors"];
            assert!(errors[stage][class].as_u64() >= Some(1), "{stage} {fault:?}: {report}");
            let is_answered = stage == "quit";
            assert_eq!(status, i32::from(!is_answered), "{stage} {fault:?}: {report}");
            assert_eq!(report["messages"], if is_answered { 8 } else { 0 }, "{stage} {fault:?}: {report}");
            assert!(server.connections.load(Ordering::Relaxed) <= 20, "{stage} {fault:?}: {report}");
            if !is_answered && report["not_begun"] != 0 {
                assert_eq!(report["end"], "gave_up", "{stage} {fault:?}: {report}");
                assert!(report["reason"].as_str().unwrap().contains(stage), "{stage} {fault:?}: {report}");
            }
        }
    };
    at_all(&STAGES, fail_at);
}

/// However it ends: a load of which nothing was accepted did not go well.
#[test]
fn fails_if_no_message_is_sent_within_the_duration() {
    at_all(&["greeting", "ehlo"], |stage| {
        for fault in [Fault::Close, Fault::Reset, Fault::Reply("421 busy"), Fault::Reply("what is this")] {
            let server = server(stage, fault);
            let (status, report) = Load::start(server.address, "-c 2 --duration 500ms").end();
            assert_eq!((status, &report["messages"]), (1, &0.into()), "{stage} {fault:?}: {report}");
        }
    });
}

#[test]
fn a_message_without_a_final_reply_is_in_doubt() {
    let server = server("end_of_data", Fault::Silence);
    let (status, report) = Load::start(server.address, "-c 1 -m 1 --timeout 200ms").end();
    assert_eq!((status, &report["failed"], &report["unknown"]), (1, &1.into(), &1.into()));
}

#[test]
fn pauses_after_a_refused_greeting() {
    at_all(&["421 busy", "554 no"], |reply| {
        for arguments in ["-c 64", "-c 500 --duration 1m", "-c 64 --pipelining --bdat -p 0"] {
            let server = server("greeting", Fault::Reply(reply));
            let (status, report) = Load::start(server.address, &format!("{arguments} --patience 2s")).end();
            assert_eq!((status, &report["end"]), (1, &"gave_up".into()), "{report}");
            assert!(report["reason"].as_str().unwrap().contains(reply), "{report}");
            // Those that were under way when the first one was refused, and some retries.
            let connections = server.connections.load(Ordering::Relaxed);
            assert!(connections < 300, "{reply} {arguments}: {connections}");
        }
    });
}

#[test]
fn refused_clients_pause_and_the_others_continue() {
    let open = AtomicUsize::new(0);
    let server = serving(move |stream| {
        let has_room = open.fetch_add(1, Ordering::SeqCst) < 2;
        let fault = |stage: &str| (stage == "greeting" && !has_room).then_some(Fault::Reply("421 too many"));
        serve(stream, &fault);
        open.fetch_sub(1, Ordering::SeqCst);
        None
    });
    let (status, report) = Load::start(server.address, "-c 20 -m 500 -p 0").end();
    assert_eq!((status, &report["messages"]), (0, &500.into()), "{report}");
}

#[test]
fn ends_soon_after_its_duration() {
    at_all(&STAGES, |stage| {
        let server = server(stage, Fault::Silence);
        let (_, report) = Load::start(server.address, "-c 2 --duration 300ms").end();
        assert!(report["errors"][stage]["timeout"].as_u64() >= Some(1), "{stage}: {report}");
        assert_ne!(report["end"], "signal", "{stage}: {report}");
    });
}

#[test]
fn a_signal_ends_the_run_with_a_report() {
    at_all(&STAGES, |stage| {
        let (told, asked) = mpsc::channel();
        let server = serving(move |stream| {
            let fault = |at: &str| {
                (at == stage).then(|| {
                    let _ = told.send(());
                    Fault::Silence
                })
            };
            serve(stream, &fault)
        });
        let load = Load::start(server.address, "-c 2 -m 8");
        asked.recv().unwrap();
        load.signal();
        let (status, report) = load.end();
        assert_eq!((status, &report["end"]), (1, &"signal".into()), "{stage}: {report}");
    });
}

#[test]
fn gives_up_on_a_server_that_has_stopped() {
    for arguments in
        ["-c 100 --patience 500ms", "-c 100 --patience 500ms --duration 1h", "--idle 3 --patience 500ms"]
    {
        let (status, report) = Load::start("127.0.0.1:1".parse().unwrap(), arguments).end();
        assert_eq!((status, &report["end"]), (1, &"gave_up".into()), "{report}");
        assert!(report["errors"]["connect"]["refused"].as_u64() < Some(300), "{report}");
    }
}

#[test]
fn gives_up_on_a_listener_that_accepts_nothing() {
    // Its queue holds one or two connections; further ones are not even made.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let (status, report) = Load::start(address, "-c 8 --timeout 300ms --patience 300ms").end();
    assert_eq!((status, &report["end"]), (1, &"gave_up".into()), "{report}");
    assert!(report["connections_failed"].as_u64() > Some(0), "{report}");
}

#[test]
fn gives_up_on_a_server_that_reads_nothing() {
    let server = serving(|mut stream| {
        let mut memory = [0; 200];
        stream.write_all(b"220 mx\r\n").ok()?;
        for reply in ["250 mx", "250 ok", "250 ok", "354 go"] {
            let _ = stream.read(&mut memory).ok()?;
            stream.write_all(format!("{reply}\r\n").as_bytes()).ok()?;
        }
        // Until the client ends the connection, and nothing is read before.
        let mut events = [rustix::event::PollFd::new(&stream, rustix::event::PollFlags::RDHUP)];
        rustix::event::poll(&mut events, None).ok()?;
        None
    });
    let (status, report) = Load::start(server.address, "-c 1 -m 1 --size 50M --timeout 500ms").end();
    assert_eq!((status, &report["failed"]), (1, &1.into()), "{report}");
    assert_eq!(report["errors"]["end_of_data"]["timeout"], 1, "{report}");
    assert_eq!(report["unknown"], 0, "{report}");
}

#[test]
fn misbehaving_clients_end_with_a_report() {
    let (status, report) =
        Load::start("127.0.0.1:1".parse().unwrap(), "--hostile 500 --patience 500ms").end();
    assert_eq!(
        (status, &report["end"], &report["connections"]),
        (1, &"gave_up".into(), &0.into()),
        "{report}"
    );
    assert!(report["connections_failed"].as_u64() < Some(200), "{report}");
    for fault in
        [Fault::Flood("250 ok\r\n"), Fault::Flood("x"), Fault::Silence, Fault::Close, Fault::Reply("421 no")]
    {
        let server = server("greeting", fault);
        let (status, report) = Load::start(server.address, "--hostile 20 --duration 500ms").end();
        assert_eq!((status, &report["end"]), (0, &"duration".into()), "{fault:?}: {report}");
        let server = self::server("greeting", fault);
        let load = Load::start(server.address, "--hostile 20");
        server.made.recv().unwrap();
        load.signal();
        let (_, report) = load.end();
        assert_eq!(report["end"], "signal", "{fault:?}: {report}");
    }
}

/// A server that ends a connection on which more comes in resets it; what it said before that counts.
#[test]
fn reads_what_a_server_sent_before_a_reset() {
    let server = server("bdat", Fault::Reply("421 enough"));
    let load = Load::start(server.address, "--hostile 50 --kinds bdat-lies --duration 1500ms");
    let (status, report) = load.end();
    assert_eq!(status, 0, "{report}");
    let ended = report["ended_by_server"].as_u64().unwrap();
    assert!(ended >= 50 && report["replies"]["421"].as_u64() >= Some(ended), "{report}");
}
