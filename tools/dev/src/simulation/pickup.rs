//! Owns messages that are submitted on the simulated machine: the pickup's side of the workers' channel, without its
//! files and threads.

use std::collections::{BTreeMap, VecDeque};

use crossbeam::channel::{self, Receiver, Sender};
use mailrace::worker::{Report, SubmissionStart, SubmissionState, Submit};
use mailrace_core::envelope::{BodyType, Notify, Protocol, Recipient, Return, Submitter};
use mailrace_core::{Envelope, Origin, Timestamp};
use mailrace_io::sim::{Random, World};

use super::ledger::Ledger;
use super::message::{Body, Message};
use super::plan::Manner;

/// Number of the user who submits all of them.
pub(super) const USER_ID: u32 = 1000;
/// Messages under way at once at most.
const UNDER_WAY_MAX: usize = 3;
/// How often one is tried that cannot be taken for now.
const TRIES_MAX: u32 = 5;

/// The pickup of a life.
#[derive(Debug)]
pub(super) struct Pickup {
    /// Messages that were not given to a worker, or not taken, each with the number of tries.
    waiting: VecDeque<(usize, u32)>,
    under_way: BTreeMap<u64, UnderWay>,
    next: u64,
    states: Receiver<(u64, SubmissionState)>,
    tell: Sender<(u64, SubmissionState)>,
    random: Random,
}

/// A message that a worker has.
#[derive(Debug)]
struct UnderWay {
    message: usize,
    worker: usize,
    /// What it does not have yet.
    rest: Vec<u8>,
    tries: u32,
}

/// Something to send to a worker.
type Step = (usize, Submit);

impl Pickup {
    pub(super) fn new(random: Random) -> Self {
        let (tell, states) = channel::unbounded();
        Self { waiting: VecDeque::new(), under_way: BTreeMap::new(), next: 0, states, tell, random }
    }

    /// Messages are dropped.
    pub(super) fn invite(&mut self, count: usize, manner: &Manner, ledger: &mut Ledger) {
        for _ in 0..count {
            let size = usize::try_from(self.random.magnitude(20, manner.sizes)).unwrap_or(usize::MAX);
            let generation = ledger.generation;
            let number = ledger.begin(|number| Message::local(number, size, manner, &mut self.random));
            ledger.message_mut(number).generation = generation;
            self.waiting.push_back((number, 0));
        }
    }

    /// Nothing waits, and nothing is under way.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// Whether another message may be given to a worker.
    pub(super) fn can_begin(&self) -> bool {
        !self.waiting.is_empty() && self.under_way.len() < UNDER_WAY_MAX
    }

    /// Gives a message to a worker.
    pub(super) fn begin(&mut self, world: &World, worker: usize, ledger: &mut Ledger) -> Option<[Step; 2]> {
        let (message, tries) = self.waiting.pop_front()?;
        let number = self.next;
        self.next += 1;
        world.note("message {} is submitted to worker {}", [message as u64, worker as u64, 0]);
        let said = ledger.message(message);
        let tell = self.tell.clone();
        let start = SubmissionStart {
            number,
            origin: Origin { protocol: Protocol::Local, ..Origin::default() },
            is_local_context: false,
            envelope: envelope(said, world.wall_clock()),
            report: Report::new(move |state| {
                let _ = tell.send((number, state));
            }),
        };
        let rest = said.content.clone();
        self.under_way.insert(number, UnderWay { message, worker, rest, tries });
        let part = self.part(number, ledger)?;
        Some([(worker, Submit::Start(Box::new(start))), part])
    }

    /// The next part of a message; now and then the end of it.
    fn part(&mut self, number: u64, ledger: &mut Ledger) -> Option<Step> {
        let UnderWay { message, worker, rest, .. } = self.under_way.get_mut(&number)?;
        if self.random.one_in(100) {
            return Some((*worker, Submit::Abandon { number }));
        }
        let most = rest.len().min(PART_MAX);
        let size = if self.random.one_in(2) { most } else { self.random.index(most + 1) };
        let behind = rest.split_off(size);
        let octets = std::mem::replace(rest, behind);
        let is_last = rest.is_empty();
        if is_last {
            ledger.sent(*message);
        }
        Some((*worker, Submit::Content { number, octets, is_last }))
    }

    /// Takes what workers have said, and gives them more.
    pub(super) fn advance(&mut self, world: &World, ledger: &mut Ledger) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        while let Ok((number, state)) = self.states.try_recv() {
            let under_way = self.under_way.get(&number);
            let Some(UnderWay { message, tries, .. }) = under_way else {
                return Err(format!("a finished submission got {state:?}"));
            };
            let (message, tries) = (*message, *tries);
            if state == SubmissionState::Taken {
                steps.extend(self.part(number, ledger));
            }
            if state.is_final() {
                self.under_way.remove(&number);
                world.note("submission {} of message {} is over", [number, message as u64, 0]);
                self.end(message, tries, &state, world, ledger)?;
            }
        }
        Ok(steps)
    }

    fn end(
        &mut self,
        message: usize,
        tries: u32,
        state: &SubmissionState,
        world: &World,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let text = |reply: &[u8]| String::from_utf8_lossy(reply).into_owned();
        let refusal = ledger.message(message).refusal;
        let reply = match state {
            SubmissionState::Queued if refusal.is_none() => {
                ledger.submitted(message);
                return Ok(());
            }
            SubmissionState::Refused(reply)
                if refusal.is_some_and(|refusal| text(reply).starts_with(refusal)) =>
            {
                text(reply)
            }
            SubmissionState::Deferred(reply) if reply.starts_with(b"4") => text(reply),
            SubmissionState::NoRoom | SubmissionState::Abandoned => "452 4.3.1 for now".to_owned(),
            state => {
                return Err(format!(
                    "message {message}, submitted locally, ended as {state:?}, not as {refusal:?}"
                ));
            }
        };
        let was_deferred = !matches!(state, SubmissionState::Refused(_));
        ledger.put_off(message, &reply, world.disk_failures());
        // What a failed write may have left must not be there twice.
        if was_deferred && tries < TRIES_MAX && ledger.is_gone(message) {
            self.waiting.push_back((message, tries + 1));
        }
        Ok(())
    }
}

/// Bytes of a part at most.
const PART_MAX: usize = 16 * 1024;

/// What the drop file says.
fn envelope(said: &Message, wall: u64) -> Envelope {
    let recipients = said.recipients.iter().map(|recipient| Recipient {
        address: recipient.address.clone().into_bytes(),
        notify: Notify::from_bits(recipient.notify),
        ..Recipient::default()
    });
    Envelope {
        arrival: Timestamp::from_unix_microseconds(wall),
        sender: said.sender.clone().into_bytes(),
        recipients: recipients.collect(),
        body: match said.body {
            Some(Body::SevenBit) => BodyType::SevenBit,
            Some(Body::EightBit) => BodyType::EightBitMime,
            Some(Body::Binary) | None => BodyType::Unstated,
        },
        ret: said.ret.map(|ret| if ret == "HDRS" { Return::Headers } else { Return::Full }),
        envelope_id: said.envelope_id.as_ref().map(|id| id.as_bytes().into()),
        submitter: Some(Box::new(Submitter { user_id: USER_ID, full_name: Vec::new() })),
        ..Envelope::default()
    }
}
