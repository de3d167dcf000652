use serde_json::{Value, json};

use super::super::name;
use super::*;

fn writer(format: LogFormat, size_max: usize) -> LogWriter {
    LogWriter::new(Arc::new(Waiting::new(size_max)), format)
}

const WALL: Timestamp = Timestamp::from_unix_microseconds(1_700_000_000_000_042);

fn write_one(writer: &mut LogWriter) {
    writer
        .line(WALL, None, name::REJECT)
        .address("from", b"a\"b\r\n\xff@example.com")
        .number("size", 7)
        .text("helo", "grün\u{1}\u{2028}\u{202e}\u{9b}\\".as_bytes());
}

#[test]
fn a_text_line_has_no_control_characters() {
    let mut writer = writer(LogFormat::Text, 1_000_000);
    write_one(&mut writer);
    let line = String::from_utf8(writer.buffer.clone()).unwrap();
    assert_eq!(
        line,
        "2023-11-14T22:13:20.000042Z mailrace: NOQUEUE: reject: from=<a\"b???@example.com>, size=7, helo=grün????\\\n"
    );
}

#[test]
fn a_json_line_preserves_every_value() {
    let mut writer = writer(LogFormat::Json, 1_000_000);
    write_one(&mut writer);
    let line: Value = serde_json::from_slice(&writer.buffer).unwrap();
    let wanted = json!({
        "time": "2023-11-14T22:13:20.000042Z",
        "id": "NOQUEUE",
        "event": "reject",
        "from": "a\"b\r\n\u{fffd}@example.com",
        "size": 7,
        "helo": "grün\u{1}\u{2028}\u{202e}\u{9b}\\",
        "bytes": {"from": "6122620d0aff406578616d706c652e636f6d"},
    });
    assert_eq!(line, wanted);
}

#[test]
fn recipients_are_a_json_array() {
    let mut writer = writer(LogFormat::Json, 1_000_000);
    let recipients: [&[u8]; 3] = [b"a@example.com", b"\x80@example.com", b"c@example.com"];
    assert_eq!(writer.line(WALL, None, name::QUEUED).addresses("to", recipients), 3);
    let line: Value = serde_json::from_slice(&writer.buffer).unwrap();
    assert_eq!(line["to"], json!(["a@example.com", "\u{fffd}@example.com", "c@example.com"]));
    assert_eq!(line["bytes"], json!({"to.1": "80406578616d706c652e636f6d"}));
    let mut writer = self::writer(LogFormat::Json, 1_000_000);
    assert_eq!(writer.line(WALL, None, name::QUEUED).addresses("to", []), 0);
    let line: Value = serde_json::from_slice(&writer.buffer).unwrap();
    assert_eq!(line["to"], json!([]));
}

#[test]
fn a_long_list_continues_in_another_line() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let recipient = [b'x'; 500];
        let mut writer = writer(format, 1_000_000);
        let taken =
            writer.line(WALL, None, name::QUEUED).addresses("to", std::iter::repeat_n(&recipient[..], 100));
        assert!((48..=50).contains(&taken), "{taken}");
        assert!(writer.gathered() < LIST_SIZE_MAX + 2000);
    }
}

#[test]
fn long_values_are_cut_and_their_size_is_logged() {
    let mut writer = writer(LogFormat::Json, 1_000_000);
    writer.line(WALL, None, EventName::of_action("warning")).text_up_to("header", &[b'x'; 100_000], 200);
    let line: Value = serde_json::from_slice(&writer.buffer).unwrap();
    assert_eq!(line["header"].as_str().unwrap().len(), JSON_SIZE_MAX);
    assert_eq!(line["sizes"], json!({"header": 100_000}));
    let mut writer = self::writer(LogFormat::Text, 1_000_000);
    writer.line(WALL, None, EventName::of_action("warning")).text_up_to("header", &[b'x'; 100_000], 200);
    assert!(String::from_utf8(writer.buffer).unwrap().ends_with("xxx...\n"));
}

/// Refusals of one client without end, while nothing is written: another's lines are all there, those about mail above
/// all, and the engine's own.
#[test]
fn one_client_cannot_displace_the_lines_of_others() {
    let mut writer = writer(LogFormat::Text, 100_000);
    let [stranger, honest] =
        ["192.0.2.1", "192.0.2.2"].map(|client| Sharer::of_client(client.parse().unwrap()));
    let refuse = |writer: &mut LogWriter, sharer, count| {
        for _ in 0..count {
            writer.line(WALL, None, name::REJECT).about_client(sharer).text("text", &[b'x'; 100]);
            writer.flush();
        }
    };
    refuse(&mut writer, stranger, 2000);
    let lost = writer.waiting.lines_lost();
    assert!(lost > 1000, "{lost}");
    refuse(&mut writer, honest, 10);
    for _ in 0..10 {
        writer.line(WALL, None, name::QUEUED).about_mail(honest).text("text", &[b'x'; 100]);
        writer.flush();
    }
    writer.line(WALL, None, name::ACCEPT_FAILED);
    writer.flush();
    assert_eq!(writer.waiting.lines_lost(), lost);
    // When all lines are written, lines of every client are accepted again.
    let written: Vec<u8> = std::iter::from_fn(|| writer.waiting.take()).flatten().collect();
    let lines = written.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines + usize::try_from(lost).unwrap(), 2021);
    refuse(&mut writer, stranger, 100);
    assert_eq!(writer.waiting.lines_lost(), lost);
}

#[test]
fn lines_without_room_are_counted() {
    let mut writer = writer(LogFormat::Text, 300);
    for _ in 0..10 {
        write_one(&mut writer);
        writer.flush();
    }
    assert_eq!(writer.waiting.lines_lost(), 8);
    assert_eq!(std::iter::from_fn(|| writer.waiting.take()).count(), 2);
}
