use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

#[test]
fn requests_round_trip() {
    let id = QueueId::from_number(1_740_800_000_000_001_024);
    for mark in [Mark::Done, Mark::Hold, Mark::Release] {
        for subject in [Subject::All, Subject::List, Subject::One(id)] {
            let request = Request::Mark(mark, subject);
            assert_eq!(format!("{request}\n").parse(), Ok(request));
        }
    }
    assert_eq!(format!("{}\n", Request::Find(id)).parse(), Ok(Request::Find(id)));
}

#[test]
fn places_round_trip() {
    let end = Location { sequence: 7, offset: 4160 };
    for progress in [None, Some(Location { sequence: 9, offset: 8192 })] {
        let place = Place { end, state: State::Hold, progress };
        assert_eq!(parse_place(&place_line(&place)), Some(place));
    }
    for line in ["none", "", "ok 1 2", "ok 1 2 hold 3", "ok 1 x hold", "ok 1 2 gone"] {
        assert_eq!(parse_place(line), None, "{line}");
    }
}

#[test]
fn the_socket_is_accessible_only_to_its_owner() {
    let root = std::env::temp_dir().join(format!("mailrace-control-{}", std::process::id()));
    let disk = OsDisk::new(&root).unwrap();
    let log = crate::log::start(crate::log::LogFormat::Text, 1 << 16).unwrap();
    start(&disk, Workers::new(Vec::new()), None, log).unwrap();
    let mode = std::fs::metadata(root.join(CONTROL_SOCKET)).unwrap().permissions().mode();
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn refuses_other_lines() {
    for line in [
        "",
        "delete",
        "delete \n",
        "erase ALL",
        "delete all",
        "delete ../lock",
        "hold ALL ALL",
        "find ALL",
        "find LIST",
        "hold LIST 1",
    ] {
        assert!(line.parse::<Request>().is_err(), "{line}");
    }
}

/// Sends `input` to an engine without workers, in pieces of `piece` bytes; returns all that it answers.
fn exchange(input: &[u8], piece: usize) -> String {
    let (client, server) = UnixStream::pair().unwrap();
    let log = crate::log::start(crate::log::LogFormat::Text, 1 << 16).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // An engine that has answered already may have closed the connection.
            let _ = input.chunks(piece).try_for_each(|piece| (&client).write_all(piece));
            let _ = client.shutdown(std::net::Shutdown::Write);
        });
        let _ = answer(&server, rustix::process::geteuid().as_raw(), &Workers::new(Vec::new()), None, &log);
        drop(server);
    });
    log.stop();
    let mut said = Vec::new();
    // A connection that was closed with unread input is reset after what was sent.
    let _ = (&client).read_to_end(&mut said);
    String::from_utf8(said).unwrap()
}

#[test]
fn each_request_has_one_answer() {
    let id = QueueId::from_number(1_740_800_000_000_001_024);
    let other = QueueId::from_number(1_740_800_000_000_002_048);
    for (input, wanted) in [
        (format!("find {id}\n"), "none\n".to_owned()),
        ("delete ALL\n".to_owned(), "ok 0 0\n".to_owned()),
        (format!("hold {id}\r\n"), "ok 0 0\n".to_owned()),
        ("release LIST\n\n".to_owned(), String::new()),
        (format!("release LIST\n{id} {other} \n\n"), format!("ok 0 0 -{id} -{other}\n")),
        (format!("release LIST\n{id}\n{other}\n\n{id}\n"), format!("ok 0 0 -{id}\nok 0 0 -{other}\n")),
        (format!("delete {id}\nhold ALL\n"), "ok 0 0\n".to_owned()),
        ("delete\n".to_owned(), "error expected a verb, and a queue id, ALL or LIST\n".to_owned()),
        (
            "erase ALL\n".to_owned(),
            "error the verbs are delete, expire, find, flush, hold and release\n".to_owned(),
        ),
        ("find ALL\n".to_owned(), "error expected a queue id\n".to_owned()),
        ("hold all\n".to_owned(), "error expected a queue id, ALL or LIST\n".to_owned()),
        (format!("hold LIST\n{id} x\n"), "error expected at most 1000 queue ids on a line\n".to_owned()),
    ] {
        for piece in [1, 7, 1000] {
            assert_eq!(exchange(input.as_bytes(), piece), wanted, "{input:?} in pieces of {piece}");
        }
    }
}

/// Of a client that was stopped while it wrote, for example.
#[test]
fn part_of_a_request_is_not_obeyed() {
    let id = QueueId::from_number(1_740_800_000_000_001_024);
    let cut = "error expected a line of at most 256 bytes\n";
    assert_eq!(exchange(b"delete ALL", 100), cut);
    assert_eq!(exchange(format!("delete {id}").as_bytes(), 100), cut);
    assert_eq!(exchange(b"", 1), cut);
    assert_eq!(exchange(format!("delete ALL{}", " ".repeat(246)).as_bytes(), 1000), cut);
    assert_eq!(exchange(format!("delete ALL{}\n", " ".repeat(245)).as_bytes(), 1000), "ok 0 0\n");
    let list = format!("hold LIST\n{id}");
    assert_eq!(exchange(list.as_bytes(), 100), "error expected at most 1000 queue ids on a line\n");
}

#[test]
fn a_request_that_is_not_text_has_an_answer() {
    assert_eq!(exchange(b"\xff\xfe\n", 1), "error expected a verb, and a queue id, ALL or LIST\n");
    assert_eq!(exchange(b"hold \xff\n", 1), "error expected a queue id, ALL or LIST\n");
    assert_eq!(exchange(b"hold LIST\n\xff\n", 100), "error expected at most 1000 queue ids on a line\n");
}

#[test]
fn a_line_of_a_list_has_at_most_a_thousand_ids() {
    let id = QueueId::from_number(1_740_800_000_000_001_024);
    let line = |count: usize| format!("hold LIST\n{}\n\n", format!("{id} ").repeat(count));
    let said = exchange(line(LINE_IDS_MAX).as_bytes(), 4096);
    assert_eq!(said.matches(" -").count(), LINE_IDS_MAX);
    let said = exchange(line(LINE_IDS_MAX + 1).as_bytes(), 4096);
    assert!(said == "error expected at most 1000 queue ids on a line\n" || said.is_empty(), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// An engine without messages: whatever is asked, each line of the answer is one that clients know.
    #[test]
    fn any_input_is_answered_in_lines_that_clients_know(
        lines in proptest::collection::vec(
            prop_oneof![
                4 => "(hold|delete|release) LIST\n",
                4 => proptest::collection::vec(any::<u64>(), 1..4).prop_map(|numbers| {
                    let ids = numbers.into_iter().map(|number| QueueId::from_number(number).to_string());
                    ids.collect::<Vec<_>>().join(" ") + "\n"
                }),
                2 => any::<u64>().prop_map(|number| format!("find {}\n", QueueId::from_number(number))),
                2 => "(find|hold|delete|release|x) (ALL|LIST|[0-9A-Za-z_]{12})?\r?\n",
                2 => Just("\n".to_owned()),
                1 => "[ -~é\\x00]{0,6}",
            ],
            0..8,
        ),
    ) {
        let input = lines.concat();
        let answer = exchange(input.as_bytes(), 1000);
        prop_assert_eq!(&exchange(input.as_bytes(), 1), &answer, "byte by byte: {:?}", input);
        prop_assert!(answer.is_empty() || answer.ends_with('\n'), "{:?}: {:?}", input, answer);
        for line in answer.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let is_known = match words.as_slice() {
                ["none"] => true,
                ["error", reason @ ..] => !reason.is_empty(),
                // Nothing is in the queue, so nothing was marked.
                ["ok", "0", "0", missing @ ..] => missing.iter().all(|id| {
                    id.strip_prefix('-').is_some_and(|id| QueueId::parse(id.as_bytes()).is_some())
                }),
                _ => false,
            };
            prop_assert!(is_known, "{:?}: {:?}", input, line);
        }
    }
}
