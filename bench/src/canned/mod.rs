//! Canned responder: the most that any server can reach on this machine over the same `Io`.
//!
//! It sends fixed replies, and examines only the first byte of a command line and the end of content. Its loop is that of
//! the engine: it handles all completions of a turn, then starts one send per client. Without a log it answers content
//! immediately. With a log it copies content once into the current block, writes blocks durably with several writes in
//! flight, and sends each reply when its write is complete.
//!
//! The time that Mailrace takes beyond this goes to its own work: parsing, cleaning, queueing, counting.

mod dialogue;
mod log;

pub use dialogue::Dialogue;
pub use log::{Log, LogError};

use std::net::TcpListener;

use mailrace_io::{Completion, ConnectionId, Io, IoError, Operation, OsDisk, Piece, ReceiveEnd, Token};

/// The server.
pub struct Canned<I: Io> {
    io: I,
    log: Option<Log>,
    clients: Vec<Option<Client>>,
    /// Clients with new replies in this turn.
    touched: Vec<u32>,
    /// Send buffers for reuse.
    spare: Vec<Vec<u8>>,
    released: Vec<ConnectionId>,
}

struct Client {
    connection: ConnectionId,
    dialogue: Dialogue,
    replies: Vec<u8>,
    is_touched: bool,
    is_sending: bool,
    /// The content waits for its write, and the replies wait with it.
    is_held: bool,
    is_closing: bool,
    /// Batch in which the current content began.
    content_batch: Option<u64>,
}

impl<I: Io<Disk = OsDisk>> Canned<I> {
    /// Creates a responder on `listener` for at most `connections` clients.
    pub fn new(mut io: I, listener: TcpListener, log: Option<Log>, connections: u32) -> Self {
        io.submit(Token::default(), Operation::Accept(listener));
        let clients = (0..connections).map(|_| None).collect();
        Self { io, log, clients, touched: Vec::new(), spare: Vec::new(), released: Vec::new() }
    }

    /// Serves until an error.
    ///
    /// # Errors
    /// The ring or a write failed.
    pub fn run(mut self) -> Result<std::convert::Infallible, CannedError> {
        let mut completions = Vec::new();
        loop {
            self.io.wait(None, &mut completions).map_err(CannedError::Io)?;
            for completion in completions.drain(..) {
                self.complete(completion)?;
            }
            if let Some(log) = &mut self.log {
                log.advance(&mut self.io);
            }
            self.send_replies();
        }
    }

    fn complete(&mut self, completion: Completion) -> Result<(), CannedError> {
        match completion {
            Completion::Accepted { connection, .. } => self.accepted(connection),
            Completion::Received { connection, piece, .. } => {
                self.received(connection, &piece);
                self.io.recycle(piece);
            }
            Completion::ReceiveEnded { token, connection, end } => {
                if client(&mut self.clients, connection).is_some() {
                    match end {
                        ReceiveEnd::OutOfBuffers => self.io.submit(token, Operation::Receive(connection)),
                        ReceiveEnd::Closed | ReceiveEnd::Stopped | ReceiveEnd::Failed(_) => {
                            self.close(connection)
                        }
                    }
                }
            }
            Completion::Sent { connection, memory, result, .. } => {
                self.spare.push(memory);
                if let Some(client) = client(&mut self.clients, connection) {
                    client.is_sending = false;
                    if result.is_err() || (client.is_closing && client.replies.is_empty()) {
                        self.close(connection);
                    } else if !client.replies.is_empty() {
                        touch(client, &mut self.touched);
                    }
                }
            }
            Completion::Written { token, block, result } => {
                result.map_err(CannedError::Write)?;
                if let Some(log) = &mut self.log {
                    log.written(token, block, &mut self.released);
                }
                for connection in self.released.drain(..) {
                    if let Some(client) = client(&mut self.clients, connection) {
                        client.is_held = false;
                        touch(client, &mut self.touched);
                    }
                }
            }
            Completion::AcceptFailed { .. } | Completion::Connected { .. } | Completion::Read { .. } => {}
        }
        Ok(())
    }

    fn accepted(&mut self, connection: ConnectionId) {
        let mut replies = self.spare.pop().unwrap_or_default();
        replies.clear();
        replies.extend_from_slice(dialogue::GREETING);
        let mut client = Client {
            connection,
            dialogue: Dialogue::default(),
            replies,
            is_touched: false,
            is_sending: false,
            is_held: false,
            is_closing: false,
            content_batch: None,
        };
        touch(&mut client, &mut self.touched);
        self.io.submit(Token::default(), Operation::Receive(connection));
        self.clients[connection.slot as usize] = Some(client);
    }

    fn received(&mut self, connection: ConnectionId, piece: &Piece) {
        let octets = self.io.received(piece);
        let Some(client) = client(&mut self.clients, connection) else { return };
        let log = &mut self.log;
        let Client { dialogue, replies, content_batch, is_held, .. } = client;
        dialogue.feed(octets, replies, |content, is_last| {
            if let Some(log) = log {
                let began = *content_batch.get_or_insert_with(|| log.current_batch());
                log.append(content);
                if is_last {
                    log.wait_for(connection, began);
                    *content_batch = None;
                    *is_held = true;
                }
            }
        });
        client.is_closing = client.dialogue.is_over();
        if !client.replies.is_empty() {
            touch(client, &mut self.touched);
        }
    }

    /// Starts one send to each client whose replies are not held.
    fn send_replies(&mut self) {
        for slot in self.touched.drain(..) {
            let Some(client) = self.clients.get_mut(slot as usize).and_then(Option::as_mut) else { continue };
            client.is_touched = false;
            if client.is_held || client.is_sending || client.replies.is_empty() {
                continue;
            }
            client.is_sending = true;
            let connection = client.connection;
            let mut next = self.spare.pop().unwrap_or_default();
            next.clear();
            let replies = std::mem::replace(&mut client.replies, next);
            self.io.submit(Token::default(), Operation::Send(connection, replies));
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        self.io.submit(Token::default(), Operation::Close(connection));
        if let Some(client) = self.clients.get_mut(connection.slot as usize).and_then(Option::take) {
            self.spare.push(client.replies);
        }
    }
}

fn client(clients: &mut [Option<Client>], connection: ConnectionId) -> Option<&mut Client> {
    clients.get_mut(connection.slot as usize)?.as_mut().filter(|client| client.connection == connection)
}

fn touch(client: &mut Client, touched: &mut Vec<u32>) {
    if !client.is_touched {
        client.is_touched = true;
        touched.push(client.connection.slot);
    }
}

/// Reason why a responder ended.
#[derive(Debug)]
pub enum CannedError {
    /// The ring.
    Io(IoError),
    /// A write.
    Write(std::io::Error),
}

impl std::fmt::Display for CannedError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(out),
            Self::Write(error) => write!(out, "writing the log: {error}"),
        }
    }
}

impl std::error::Error for CannedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Write(error) => Some(error),
        }
    }
}
