use super::*;
use crate::tables::TableSettings;
use crate::tables::{OpenTables, Opener};
use mailrace_core::lookup::{Answers, Maps};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::thread;

pub(super) const SETTINGS: RemoteSettings = RemoteSettings {
    timeout: Duration::from_secs(20),
    connections: 2,
    memory_time: Duration::from_secs(600),
    memory: 1 << 20,
};

/// A table, and who waits for its answers.
pub(super) struct Asked {
    maps: Maps,
    answers: Receiver<Ticket>,
}

impl Asked {
    pub(super) fn open(table: &str, base: &Path, settings: RemoteSettings) -> Self {
        let lookups = Lookups::default();
        let answers = lookups.answers();
        let nothing = OpenTables::default();
        let maps =
            Opener::new(&lookups, TableSettings { remote: settings, ..TableSettings::default() }, &nothing)
                .maps(&[table.to_owned()], base)
                .unwrap();
        Self { maps, answers }
    }

    pub(super) fn ask(&self, key: &str) -> Result<Option<String>, LookupError> {
        let arena = Bump::new();
        loop {
            match self.maps.find(&arena, key.as_bytes(), Sharer::default()) {
                Err(LookupError::Pending(ticket)) => while self.answers.recv().unwrap() != ticket {},
                result => {
                    return result.map(|value| value.map(|value| String::from_utf8(value.to_vec()).unwrap()));
                }
            }
        }
    }
}

/// One transaction of a table: it comes again when there is an answer, and asks nothing twice.
struct Transaction<'a> {
    asked: &'a Asked,
    answers: RefCell<Answers>,
}

impl Transaction<'_> {
    fn find(&self, key: &str) -> Result<Option<String>, LookupError> {
        let (arena, asker) = (Bump::new(), Asker::new(Sharer::default(), &self.answers));
        let found = self.asked.maps.find(&arena, key.as_bytes(), asker)?;
        Ok(found.map(|value| String::from_utf8(value.to_vec()).unwrap()))
    }

    /// Asks for all keys at once, and for all of them again after each answer, as a message does.
    fn ask_all(&self, keys: &[&str]) -> Vec<Result<Option<String>, LookupError>> {
        loop {
            let found: Vec<_> = keys.iter().map(|key| self.find(key)).collect();
            if !found.iter().any(|found| matches!(found, Err(LookupError::Pending(_)))) {
                return found;
            }
            self.asked.answers.recv().unwrap();
        }
    }
}

/// A table without a cache whose server counts the questions for each key.
fn uncached(form: impl Fn(u16) -> String) -> (Asked, Arc<Mutex<BTreeMap<String, usize>>>) {
    let counts = Arc::<Mutex<BTreeMap<String, usize>>>::default();
    let counter = Arc::clone(&counts);
    let port = server(move |stream| {
        answer_lines(&stream, |key| {
            *counter.lock().unwrap().entry(key.to_owned()).or_default() += 1;
            Some(match key {
                "bad" => "400 try%20later\n".to_owned(),
                "gone" => "500 not%20found\n".to_owned(),
                _ => format!("200 of-{key}\n"),
            })
        });
    });
    let settings = RemoteSettings { memory: 0, ..SETTINGS };
    (Asked::open(&form(port), Path::new("/"), settings), counts)
}

#[test]
fn without_a_cache_a_transaction_asks_each_question_once() {
    let (asked, counts) = uncached(|port| format!("tcp:127.0.0.1:{port}"));
    let keys = ["a", "b", "gone", "c", "A"];
    let expected = [Some("of-a"), Some("of-b"), None, Some("of-c"), Some("of-a")]
        .map(|value| Ok(value.map(str::to_owned)));
    for transactions in 1..=3 {
        let transaction = Transaction { asked: &asked, answers: RefCell::default() };
        assert_eq!(transaction.ask_all(&keys), expected);
        assert_eq!(transaction.ask_all(&keys), expected);
        // The same key in another spelling is another question of the transaction, which may be under way already.
        let counts = counts.lock().unwrap();
        assert!(["b", "gone", "c"].iter().all(|key| counts[*key] == transactions), "{counts:?}");
        assert!(counts["a"] <= 2 * transactions, "{counts:?}");
    }
}

/// Each of the tables is asked by itself, so that its answer finds the transaction.
#[test]
fn without_a_cache_the_parts_of_a_table_are_asked_once() {
    for (kind, expected) in [("pipemap", "of-of-a"), ("unionmap", "of-a,of-a")] {
        let (asked, counts) = uncached(|port| {
            // Two tables with the same questions, and connections of their own.
            format!("{kind}:{{tcp:127.0.0.1:{port}, proxy:tcp:127.0.0.1:{port}}}")
        });
        let transaction = Transaction { asked: &asked, answers: RefCell::default() };
        assert_eq!(transaction.ask_all(&["a"]), [Ok(Some(expected.to_owned()))], "{kind}");
        let counts = counts.lock().unwrap();
        let all: usize = counts.values().sum();
        assert!(all <= 2, "{kind}: {counts:?}");
    }
}

/// That there was no answer reaches each transaction that waited for it, and the next command asks again.
#[test]
fn without_a_cache_a_failure_is_reported_once() {
    let (asked, counts) = uncached(|port| format!("tcp:127.0.0.1:{port}"));
    let transaction = Transaction { asked: &asked, answers: RefCell::default() };
    for commands in 1..=3 {
        let ticket = match transaction.find("bad") {
            Err(LookupError::Pending(ticket)) => ticket,
            other => panic!("{other:?}"),
        };
        assert_eq!(asked.answers.recv().unwrap(), ticket);
        assert_eq!(transaction.find("bad"), Err(LookupError::Unavailable));
        assert_eq!(counts.lock().unwrap()["bad"], commands);
    }
}

/// An answer that comes before its transaction looks for it is there when it does, though others have asked meanwhile.
#[test]
fn an_answer_waits_for_its_transaction() {
    let (asked, counts) = uncached(|port| format!("tcp:127.0.0.1:{port}"));
    let transactions = [(); 2].map(|()| Transaction { asked: &asked, answers: RefCell::default() });
    for transaction in &transactions {
        let _ = transaction.find("late");
    }
    asked.answers.recv().unwrap();
    for _ in 0..2 {
        // What others ask meanwhile pushes nothing out.
        let other = Transaction { asked: &asked, answers: RefCell::default() };
        other.ask_all(&["x", "y", "z"]).into_iter().for_each(|found| assert!(found.is_ok()));
    }
    for transaction in &transactions {
        transaction
            .ask_all(&["late"])
            .into_iter()
            .for_each(|found| assert_eq!(found, Ok(Some("of-late".to_owned()))));
    }
    assert!(counts.lock().unwrap()["late"] <= 2);
}

/// A server whose connections are each given to `serve`; its port.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    port
}

/// Answers requests of tcp_table(5).
fn answer_lines(stream: &TcpStream, answer: impl Fn(&str) -> Option<String>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(line)) = lines.next() {
        let Some(reply) = answer(line.strip_prefix("get ").unwrap()) else { return };
        (&*stream).write_all(reply.as_bytes()).unwrap();
    }
}

#[test]
fn a_tcp_table_is_asked_once_for_each_key() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let port = server(move |stream| {
        answer_lines(&stream, |key| {
            counter.fetch_add(1, Ordering::Relaxed);
            Some(match key {
                "user@example.com" => "200 other%40example.net\n".to_owned(),
                "bad" => "400 try%20later\n".to_owned(),
                _ => "500 not%20found\n".to_owned(),
            })
        });
    });
    let table = Asked::open(&format!("tcp:127.0.0.1:{port}"), Path::new("/"), SETTINGS);
    for _ in 0..3 {
        assert_eq!(table.ask("User@example.com"), Ok(Some("other@example.net".to_owned())));
        assert_eq!(table.ask("nobody"), Ok(None));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(table.ask("bad"), Err(LookupError::Unavailable));
}

#[test]
fn reconnects_after_the_server_closed_the_connection() {
    let port = server(|stream| {
        let is_first = std::cell::Cell::new(true);
        answer_lines(&stream, |key| is_first.take().then(|| format!("200 {key}\n")));
    });
    let settings = RemoteSettings { connections: 1, ..SETTINGS };
    let table = Asked::open(&format!("tcp:127.0.0.1:{port}"), Path::new("/"), settings);
    for key in ["a", "b", "c"] {
        assert_eq!(table.ask(key), Ok(Some(key.to_owned())));
    }
}

#[test]
fn queries_a_socketmap() {
    let port = server(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut length = Vec::new();
        while reader.read_until(b':', &mut length).unwrap() > 0 {
            let size: usize = String::from_utf8_lossy(&length).trim_end_matches(':').parse().unwrap();
            let mut request = vec![0; size + 1];
            reader.read_exact(&mut request).unwrap();
            let reply = match &request[..size] {
                b"map key" => "OK a value",
                b"map gone" => "NOTFOUND ",
                _ => "PERM what?",
            };
            write!(stream, "{}:{reply},", reply.len()).unwrap();
            length.clear();
        }
    });
    let table = Asked::open(&format!("socketmap:inet:127.0.0.1:{port}:map"), Path::new("/"), SETTINGS);
    assert_eq!(table.ask("key"), Ok(Some("a value".to_owned())));
    assert_eq!(table.ask("gone"), Ok(None));
    assert_eq!(table.ask("other"), Err(LookupError::Unavailable));
}

#[test]
fn a_server_that_does_not_answer_times_out() {
    let port = server(|stream| {
        answer_lines(&stream, |_| {
            thread::park();
            None
        });
    });
    let settings = RemoteSettings { timeout: Duration::from_millis(20), ..SETTINGS };
    let table = Asked::open(&format!("tcp:127.0.0.1:{port}"), Path::new("/"), settings);
    assert_eq!(table.ask("a"), Err(LookupError::Unavailable));
    // No process listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let table = Asked::open(&format!("tcp:127.0.0.1:{port}"), Path::new("/"), SETTINGS);
    assert_eq!(table.ask("a"), Err(LookupError::Unavailable));
}

#[test]
fn a_client_with_endless_questions_does_not_block_others() {
    let port = server(|stream| {
        // No other client's connection is used for a question without an answer.
        answer_lines(&stream, |key| {
            if !key.starts_with("honest") {
                thread::park();
            }
            Some("500 not%20found\n".to_owned())
        });
    });
    let Asked { maps, answers } = Asked::open(&format!("tcp:127.0.0.1:{port}"), Path::new("/"), SETTINGS);
    let [stranger, honest] =
        ["192.0.2.1", "198.51.100.1"].map(|client| Sharer::of_client(client.parse().unwrap()));
    let ask = |key: &str, sharer| match maps.find(&Bump::new(), key.as_bytes(), sharer) {
        Err(LookupError::Pending(ticket)) => Some(ticket),
        Err(LookupError::Unavailable) => None,
        Ok(value) => panic!("{key}: {value:?}"),
    };
    let asked: Vec<Ticket> = (0..10_000).map_while(|number| ask(&format!("{number}"), stranger)).collect();
    assert!((PLACES_MAX..=PLACES_MAX + SETTINGS.connections).contains(&asked.len()), "{}", asked.len());
    let next = || answers.recv_timeout(SETTINGS.timeout / 2).unwrap();
    let mut made_room = Vec::new();
    for key in ["honest1", "honest2", "honest3"] {
        let ticket = ask(key, honest).unwrap();
        made_room.extend(std::iter::from_fn(|| Some(next()).filter(|answered| *answered != ticket)));
        assert_eq!(maps.find(&Bump::new(), key.as_bytes(), honest), Ok(None));
    }
    // The client whose question made room is woken as well.
    if made_room.is_empty() {
        made_room.push(next());
    }
    assert!(made_room.iter().all(|ticket| asked.contains(ticket)));
}

#[test]
fn uses_all_connections_and_closes_them_with_the_table() {
    let (closed, ends) = channel::unbounded::<()>();
    let both = std::sync::Barrier::new(SETTINGS.connections);
    let port = server(move |stream| {
        answer_lines(&stream, |key| {
            both.wait();
            Some(format!("200 {key}\n"))
        });
        closed.send(()).unwrap();
    });
    let Asked { maps, answers } = Asked::open(&format!("tcp:127.0.0.1:{port}"), Path::new("/"), SETTINGS);
    // The last connection is for another network.
    let tickets = ["192.0.2.1", "198.51.100.1"].map(|client| {
        let sharer = Sharer::of_client(client.parse().unwrap());
        match maps.find(&Bump::new(), client.as_bytes(), sharer) {
            Err(LookupError::Pending(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    });
    let patience = SETTINGS.timeout / 2;
    let mut told = [(); 2].map(|()| answers.recv_timeout(patience).unwrap());
    told.sort_unstable();
    assert_eq!(told, tickets);
    drop(maps);
    (0..SETTINGS.connections).for_each(|_| ends.recv_timeout(patience).unwrap());
}

#[test]
fn failures_are_cached_only_briefly() {
    let is_first = AtomicBool::new(true);
    let port = server(move |stream| {
        answer_lines(&stream, |_| {
            let is_first = is_first.swap(false, Ordering::Relaxed);
            Some(if is_first { "400 try%20later\n".to_owned() } else { "200 found\n".to_owned() })
        });
    });
    let table = Asked::open(&format!("tcp:127.0.0.1:{port}"), Path::new("/"), SETTINGS);
    let start = Instant::now();
    let mut failures = 0;
    while table.ask("a") == Err(LookupError::Unavailable) {
        failures += 1;
        assert!(start.elapsed() < SETTINGS.timeout, "it is remembered for {:?}", start.elapsed());
        thread::park_timeout(Duration::from_millis(20));
    }
    assert!(failures > 1, "for a while the server is left in peace");
    assert_eq!(table.ask("a"), Ok(Some("found".to_owned())));
}

#[test]
fn questions_are_answered_after_their_table_is_gone() {
    let (go, wait) = channel::bounded::<()>(0);
    let port = server(move |stream| {
        answer_lines(&stream, |key| {
            wait.recv().unwrap();
            Some(format!("200 {key}\n"))
        });
    });
    let Asked { maps, answers } = Asked::open(&format!("tcp:127.0.0.1:{port}"), Path::new("/"), SETTINGS);
    let tickets =
        ["a", "b", "c", "d"].map(|key| match maps.find(&Bump::new(), key.as_bytes(), Sharer::default()) {
            Err(LookupError::Pending(ticket)) => ticket,
            other => panic!("{other:?}"),
        });
    drop(maps);
    for _ in 0..4 {
        go.send(()).unwrap();
    }
    let mut told: Vec<Ticket> = answers.iter().take(4).collect();
    told.sort_unstable();
    assert_eq!(told, tickets);
}

#[cfg(feature = "sqlite")]
#[test]
fn queries_a_sqlite_table() {
    let directory = std::env::temp_dir().join(format!("mailrace-sqlite-{}", std::process::id()));
    let base = directory.as_path();
    std::fs::create_dir_all(base).unwrap();
    let database = rusqlite::Connection::open(base.join("db")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE a (k TEXT, v TEXT); INSERT INTO a VALUES ('o''x@y','1'),('o''x@y','2'),('n',NULL);",
        )
        .unwrap();
    std::fs::write(base.join("map.cf"), "dbpath = db\nquery = SELECT v FROM a\n  WHERE k = '%s'\n").unwrap();
    let table = Asked::open("sqlite:map.cf", base, SETTINGS);
    assert_eq!(table.ask("O'x@y"), Ok(Some("1,2".to_owned())));
    assert_eq!(table.ask("n"), Ok(None));
    assert_eq!(table.ask("x' OR '1'='1"), Ok(None));
    std::fs::write(base.join("wrong.cf"), "dbpath = db\nquery = SELECT v FROM b\n").unwrap();
    assert_eq!(Asked::open("sqlite:wrong.cf", base, SETTINGS).ask("x"), Err(LookupError::Unavailable));
    std::fs::remove_dir_all(base).unwrap();
}
