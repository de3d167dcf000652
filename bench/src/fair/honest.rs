//! Honest clients: each sends one message after the other and records the replies.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mailrace_peers::Client;

/// Results of honest clients.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Messages accepted.
    pub accepted: u64,
    /// Replies or errors received instead.
    pub refused: Vec<String>,
    /// Longest time that a message took, including connecting.
    pub slowest: Duration,
}

/// Condition on which clients end.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After all clients together have sent this number of messages.
    Messages(u64),
    /// After some time.
    Time {
        /// Duration.
        time: Duration,
        /// Interval between messages of a client; a late client continues as soon as it can.
        every: Duration,
    },
}

/// Runs `clients` that send messages, three per connection.
///
/// # Panics
/// Panics if one of the threads does.
pub fn send(server: SocketAddr, clients: usize, until: Until) -> Told {
    let begun = AtomicU64::new(0);
    let start = Instant::now();
    let is_over = AtomicBool::new(false);
    let may_go_on = |number: &mut u32| {
        let may = match until {
            Until::Messages(count) => begun.fetch_add(1, Ordering::Relaxed) < count,
            Until::Time { time, every } => {
                std::thread::sleep((every * *number).saturating_sub(start.elapsed()));
                start.elapsed() < time
            }
        };
        *number += 1;
        may && !is_over.load(Ordering::Relaxed)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut told = Told::default();
                    let mut number = 0;
                    while may_go_on(&mut number) {
                        if let Err(refusal) = session(server, &mut || may_go_on(&mut number), &mut told) {
                            told.refused.push(refusal);
                        }
                        // Further refusals would add nothing.
                        if told.refused.len() >= REFUSALS_MAX {
                            is_over.store(true, Ordering::Relaxed);
                        }
                    }
                    told
                })
            })
            .collect();
        let mut all = Told::default();
        for thread in threads {
            let told = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.accepted += told.accepted;
            all.refused.extend(told.refused);
            all.slowest = all.slowest.max(told.slowest);
        }
        all
    })
}

/// Runs one connection, whose first message the caller has already allowed.
fn session(server: SocketAddr, may_go_on: &mut dyn FnMut() -> bool, told: &mut Told) -> Result<(), String> {
    let mut start = Instant::now();
    let mut client = Client::connect(server, PATIENCE).map_err(at("connecting"))?;
    expect(&mut client, b"", &[220])?;
    expect(&mut client, b"EHLO honest.example\r\n", &[250])?;
    for number in 0..3 {
        if number > 0 && !may_go_on() {
            break;
        }
        // Each message has a distinct recipient, so that a table is searched for each.
        let recipient = RECIPIENTS.fetch_add(1, Ordering::Relaxed);
        let envelope = format!(
            "MAIL FROM:<honest@honest.example>\r\nRCPT TO:<someone{recipient}@example.com>\r\nDATA\r\n"
        );
        expect(&mut client, envelope.as_bytes(), &[250, 250, 354])?;
        let content = [b"Subject: s\r\n\r\n", &b"a line of an honest message\r\n".repeat(70)[..], b".\r\n"];
        expect(&mut client, &content.concat(), &[250])?;
        told.accepted += 1;
        told.slowest = told.slowest.max(start.elapsed());
        start = Instant::now();
    }
    expect(&mut client, b"QUIT\r\n", &[221])
}

/// Sends bytes and reads replies, which must have these codes.
fn expect(client: &mut Client, bytes: &[u8], codes: &[u16]) -> Result<(), String> {
    client.send(bytes).map_err(at("sending"))?;
    for code in codes {
        let answer = client.reply().map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
            _ => at("reading")(error),
        })?;
        if answer.code != *code {
            return Err(answer.last_line().to_owned());
        }
    }
    Ok(())
}

fn at(doing: &'static str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{doing}: {error}")
}

static RECIPIENTS: AtomicU64 = AtomicU64::new(0);

/// Maximum wait for a reply.
const PATIENCE: Duration = Duration::from_secs(30);
const REFUSALS_MAX: usize = 10;
