//! A name server that answers from lines `NAME TYPE VALUE`, over UDP.
//!
//! A value may be followed by `ttl=SECONDS`. Instead of one there may be `SERVFAIL`, `REFUSED`, `FORMERR` or, for no answer at
//! all, `TIMEOUT`; then the type may be `*`, and the first label of the name, too. CNAME records are followed.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, SOA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// Time to live of records that have none, in seconds.
const TTL: u32 = 300;

pub(super) struct NameServer {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

struct Line {
    name: String,
    kind: String,
    value: String,
    ttl: u32,
}

impl NameServer {
    pub(super) fn start(address: &str, zone: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let questions = Arc::new(Mutex::new(Vec::new()));
        let lines: Vec<Line> = zone.lines().map(line).collect();
        let asked = Arc::clone(&questions);
        let thread = std::thread::spawn(move || serve(&socket, &lines, &asked));
        Self { address, questions, thread: Some(thread) }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `NAME TYPE` of all questions so far.
    pub(super) fn questions(&self) -> Vec<String> {
        self.questions.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // What is no message ends it. A thread that panicked has said so, and its test fails because no answer comes.
        let ended = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"", self.address));
        if let (Ok(_), Some(thread)) = (ended, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn line(text: &str) -> Line {
    let words: Vec<&str> = text.split(' ').collect();
    let (last, ttl) = match words[words.len() - 1].strip_prefix("ttl=") {
        Some(ttl) => (words.len() - 1, ttl.parse().unwrap()),
        None => (words.len(), TTL),
    };
    Line { name: words[0].into(), kind: words[1].into(), value: words[2..last].join(" "), ttl }
}

fn serve(socket: &UdpSocket, lines: &[Line], questions: &Mutex<Vec<String>>) {
    let mut packet = [0; 2048];
    loop {
        let (size, client) = socket.recv_from(&mut packet).unwrap();
        let Ok(request) = Message::from_vec(&packet[..size]) else { return };
        let Some(query) = request.queries.first().cloned() else { return };
        let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let kind = query.query_type().to_string();
        questions.lock().unwrap().push(format!("{name} {kind}"));
        let mut reply = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        reply.add_query(query);
        reply.metadata.recursion_desired = true;
        reply.metadata.recursion_available = true;
        if fill(&mut reply, lines, name, &kind) {
            socket.send_to(&reply.to_vec().unwrap(), client).unwrap();
        }
    }
}

/// Answers a question. False: there is no answer, ever.
fn fill(reply: &mut Message, lines: &[Line], mut name: String, kind: &str) -> bool {
    loop {
        let is_of = |line: &&Line| {
            line.name == name || line.name.strip_prefix('*').is_some_and(|end| name.ends_with(end))
        };
        let of_name: Vec<&Line> = lines.iter().filter(is_of).collect();
        let of_kind: Vec<&&Line> =
            of_name.iter().filter(|line| line.kind == kind || line.kind == "*").collect();
        let owner = Name::from_ascii(format!("{name}.")).unwrap();
        for line in &of_kind {
            reply.metadata.response_code = match &*line.value {
                "TIMEOUT" => return false,
                "SERVFAIL" => ResponseCode::ServFail,
                "REFUSED" => ResponseCode::Refused,
                "FORMERR" => ResponseCode::FormErr,
                value => {
                    reply.add_answer(Record::from_rdata(owner.clone(), line.ttl, data(kind, value)));
                    continue;
                }
            };
            return true;
        }
        if let Some(alias) = of_name.iter().find(|line| line.kind == "CNAME").filter(|_| of_kind.is_empty()) {
            reply.add_answer(Record::from_rdata(owner, alias.ttl, data("CNAME", &alias.value)));
            name.clone_from(&alias.value);
            continue;
        }
        if of_kind.is_empty() {
            if of_name.is_empty() {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
            let root = Name::root();
            let soa = SOA::new(root.clone(), root.clone(), 1, 3600, 600, 86_400, TTL);
            reply.add_authority(Record::from_rdata(root, TTL, RData::SOA(soa)));
        }
        return true;
    }
}

fn data(kind: &str, value: &str) -> RData {
    // Labels that no host may have are wanted, too.
    let name = |text: &str| {
        let labels = text.split('.').filter(|label| !label.is_empty());
        Name::from_labels(labels.map(str::as_bytes)).unwrap()
    };
    match kind.parse().unwrap() {
        RecordType::A => RData::A(A(value.parse().unwrap())),
        RecordType::AAAA => RData::AAAA(AAAA(value.parse().unwrap())),
        RecordType::CNAME => RData::CNAME(CNAME(name(value))),
        RecordType::TXT => RData::TXT(TXT::new(vec![value.to_owned()])),
        RecordType::MX => {
            let (preference, exchange) = value.split_once(' ').unwrap();
            RData::MX(MX::new(preference.parse().unwrap(), name(exchange)))
        }
        other => panic!("{other}"),
    }
}
