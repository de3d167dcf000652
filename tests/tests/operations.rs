//! What operators see: log lines and metrics.

use mailrace_tests::{Directory, Engine};

#[test]
fn log_lines_have_the_queue_id() {
    let directory = Directory::new();
    let mut engine = Engine::start(&directory, &[]);
    let id = engine.client().queue("a@example.org", "b@localhost", "Message-Id: <one@x>\r\n\r\n");
    let line = engine.line_with(&id);
    for part in [": queued: from=<a@example.org>, to=<b@localhost>, nrcpt=1, size=", "message-id=<one@x>"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    engine.stop();
}

#[test]
fn log_lines_can_be_json() {
    let directory = Directory::new();
    let mut engine =
        Engine::start(&directory, &["--set", "engine.log_format=json", "--set", "mynetworks=[]"]);
    let mut client = engine.client();
    client.say("MAIL FROM:<a\"\\b@example.org>", "501 ");
    client.say("MAIL FROM:<a@example.org>", "250 ");
    client.say("RCPT TO:<b@elsewhere.example>", "554 5.7.1 ");
    let line: serde_json::Value = serde_json::from_str(&engine.line_with("relay_denied")).unwrap();
    assert_eq!(line["event"], "reject");
    assert_eq!(line["to"], serde_json::json!(["b@elsewhere.example"]));
    engine.stop();
}

#[test]
fn metrics_count_what_happened() {
    let directory = Directory::new();
    let engine =
        Engine::start(&directory, &["--set", "engine.metrics_listen=127.0.0.1:0", "--set", "mynetworks=[]"]);
    let mut client = engine.client();
    client.queue("a@example.org", "b@localhost", "Subject: x\r\n\r\n");
    client.say("MAIL FROM:<a@example.org>", "250 ");
    client.say("RCPT TO:<b@elsewhere.example>", "554 5.7.1 ");
    let text = engine.metrics();
    for line in [
        "mailrace_sessions_total 1",
        "mailrace_sessions_open 1",
        "mailrace_messages_total 1",
        "mailrace_queue_messages 1",
        "mailrace_replies_total{code=\"554\"} 1",
        "mailrace_rejects_total{reason=\"relay_denied\"} 1",
        "mailrace_commit_latency_seconds_count 1",
        "mailrace_batch_octets_bucket{le=\"+Inf\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
    }
    engine.stop();
}
