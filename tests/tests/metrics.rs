//! The metrics as a scraper finds them: over HTTP, in two formats.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mailrace_tests::{Directory, Engine, skip};

/// An engine that has metrics of all kinds to show.
fn engine(directory: &Directory) -> Engine {
    let arguments = ["--set", "engine.metrics_listen=127.0.0.1:0", "--set", "mynetworks=[]"];
    let engine = Engine::start(directory, &arguments);
    let mut client = engine.client();
    client.queue("a@example.org", "b@localhost", "Subject: x\r\n\r\n");
    client.say("MAIL FROM:<a@example.org>", "250 ");
    client.say("RCPT TO:<b@elsewhere.example>", "554 5.7.1 ");
    engine
}

/// Sends `request`, and nothing more; what comes until the connection ends.
fn ask(engine: &Engine, request: &str) -> String {
    let mut stream = TcpStream::connect(engine.metrics_address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

/// The header section, without what differs each time, and the body.
fn parts(response: &str) -> (Vec<String>, &str) {
    let (header, body) = response.split_once("\r\n\r\n").unwrap();
    let fields = header.split("\r\n").map(str::to_ascii_lowercase);
    let fields = fields.filter(|field| !field.starts_with("date:") && !field.starts_with("content-length:"));
    (fields.collect(), body)
}

fn length(response: &str) -> usize {
    let header = response.to_ascii_lowercase();
    let (_, rest) = header.split_once("content-length: ").unwrap();
    rest.split_once("\r\n").unwrap().0.parse().unwrap()
}

#[test]
fn head_is_answered_like_get_and_other_methods_are_not_allowed() {
    let directory = Directory::new();
    let engine = engine(&directory);
    let got = ask(&engine, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = ask(&engine, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(length(&got), parts(&got).1.len());
    // The numbers may have more digits by now.
    assert!(length(&head).abs_diff(length(&got)) < 100, "{head}");
    assert_eq!(parts(&head), (parts(&got).0, ""));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
        let (header, _) =
            ask(&engine, &request).split_once("\r\n\r\n").map(|(a, b)| (a.to_owned(), b.len())).unwrap();
        assert!(header.starts_with("HTTP/1.1 405 "), "{method}: {header}");
        assert!(header.to_ascii_lowercase().contains("\r\nallow: get, head"), "{method}: {header}");
    }
    engine.stop();
}

#[test]
fn targets_versions_and_connections_follow_http() {
    let directory = Directory::new();
    let engine = engine(&directory);
    for (request, wanted) in [
        ("GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"),
        ("GET http://metrics.example/metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("GET /metrics?collect[]=x HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("GET /%6Detrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 Not Found\r\n"),
        ("HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 Not Found\r\n"),
        ("GET /metrics\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
        ("EHLO x\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
    ] {
        let response = ask(&engine, request);
        assert!(response.starts_with(wanted), "{request:?}: {response}");
    }
    // One after the other on one connection, without waiting.
    let all = ask(&engine, &"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5));
    assert_eq!(all.matches("HTTP/1.1 200 OK\r\n").count(), 5);
    let closed = ask(
        &engine,
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
    );
    assert_eq!(closed.matches("HTTP/1.1 ").count(), 1);
    engine.stop();
}

#[test]
fn a_clients_use_of_resources_is_bounded() {
    let directory = Directory::new();
    let engine = engine(&directory);
    let long = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(engine.metrics_address()).unwrap();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(long.as_bytes());
    let mut response = [0; 12];
    // The rest that is on its way may reset the connection.
    if stream.read_exact(&mut response).is_ok() {
        assert_eq!(&response, b"HTTP/1.1 431");
    }
    // A request that never ends, in crumbs or not at all.
    let start = Instant::now();
    let mut silent = TcpStream::connect(engine.metrics_address()).unwrap();
    let mut slow = TcpStream::connect(engine.metrics_address()).unwrap();
    let limit = Duration::from_secs(60);
    silent.set_read_timeout(Some(limit)).unwrap();
    while slow.write_all(b"X").is_ok() {
        assert!(start.elapsed() < limit, "a slow request has no end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut rest = Vec::new();
    // Closed, not timed out.
    silent.read_to_end(&mut rest).unwrap();
    engine.stop();
}

/// What the response to a scraper that accepts this is: its type and the metrics.
fn scrape(engine: &Engine, accept: &str) -> (String, String) {
    let response = ask(engine, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"));
    let (header, body) = parts(&response);
    let kind = header.iter().find_map(|field| field.strip_prefix("content-type: ")).unwrap();
    assert!(header.contains(&"vary: accept".to_owned()), "{header:?}");
    (kind.to_owned(), body.to_owned())
}

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

#[test]
fn serves_the_requested_format() {
    let directory = Directory::new();
    let engine = engine(&directory);
    let (kind, open) =
        scrape(&engine, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
    assert_eq!(kind, OPEN);
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE mailrace_messages counter\n"), "{open}");
    assert!(open.contains("# TYPE mailrace_build info\n"));
    let (kind, plain) = scrape(&engine, "*/*");
    assert_eq!(kind, PLAIN);
    assert!(plain.contains("# TYPE mailrace_messages_total counter\nmailrace_messages_total 1\n"), "{plain}");
    assert!(!plain.contains("# EOF"));
    // The same samples.
    let names = |text: &str| -> Vec<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    assert_eq!(names(&open), names(&plain));
    engine.stop();
}

#[test]
fn reports_the_build_and_the_process() {
    let directory = Directory::new();
    let engine = engine(&directory);
    let (_, text) = scrape(&engine, "text/plain");
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing: {text}")).parse().unwrap()
    };
    assert!(
        text.contains(&format!("mailrace_build_info{{version=\"{}\",", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    assert!(value("process_cpu_seconds_total") > 0.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
    assert!((3.0..value("process_max_fds")).contains(&value("process_open_fds")));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 600.0..=now).contains(&value("process_start_time_seconds")));
    engine.stop();
}

#[test]
fn promtool_reports_no_problem() {
    let directory = Directory::new();
    let engine = engine(&directory);
    let (_, text) = scrape(&engine, "text/plain");
    engine.stop();
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = promtool.spawn() else {
        return skip("promtool is not installed (apt-get install prometheus)");
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
