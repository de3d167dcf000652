//! Owns comparing a message in the queue with what its client said of it: every byte, every field.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::message::{Answer, Body, Message, Recipient};
use super::pickup::USER_ID;
use crate::queue_reader::{self, Envelope};

/// What a world's engine calls itself.
const HOST: &str = "localhost (Mailrace)";

/// The first field, and what stands after it.
pub(super) fn split_trace_field(content: &[u8]) -> (&[u8], &[u8]) {
    let mut end = 0;
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if end > 0 && !line.starts_with(b"\t") {
            break;
        }
        end += line.len();
    }
    content.split_at(end)
}

pub(super) fn compare_content(message: &Message, found: &[u8]) -> Result<(), String> {
    let stored = message.stored();
    if found == stored {
        return Ok(());
    }
    let place = found.iter().zip(stored).take_while(|(found, sent)| found == sent).count();
    let part = |octets: &[u8]| {
        let end = (place + 40).min(octets.len());
        String::from_utf8_lossy(&octets[place..end]).into_owned()
    };
    Err(format!(
        "has different content than was sent: {} bytes instead of {}, different from byte {place} on: {:?} instead of {:?}",
        found.len(),
        stored.len(),
        part(found),
        part(stored),
    ))
}

/// `generations`: of the tables that it may have met.
pub(super) fn compare_envelope(
    message: &Message,
    found: &Envelope,
    generations: RangeInclusive<u64>,
) -> Result<(), String> {
    let text = |text: &String| text.clone().into_bytes();
    let origin = &message.origin;
    let said = Envelope {
        arrival: found.arrival,
        client_address: origin.address.map(|(address, _)| address).or(found.client_address),
        client_port: origin.address.map(|(_, port)| port).or(found.client_port),
        client_name: None,
        helo: Some(text(&origin.helo)).filter(|helo| !helo.is_empty()),
        protocol: Some(protocol(message)),
        sender: Some(text(&message.sender)),
        body: message.body.map(Body::letter),
        smtputf8: message.smtputf8,
        ret: message.ret.map(|ret| ret.as_bytes()[0]),
        envelope_id: message.envelope_id.as_ref().map(text),
        declared_size: message.declared_size,
        user_id: origin.address.is_none().then_some(USER_ID),
        recipients: found.recipients.clone(),
        expanded: found.expanded.clone(),
    };
    if said != *found || found.arrival.is_none() {
        return Err(format!("has the wrong envelope: {found:?} instead of {said:?}"));
    }
    if let Some(missing) = compare_expanded(message, &found.expanded, *generations.start()) {
        return Err(format!("has the wrong expansions, from {missing:?} on: {:?}", found.expanded));
    }
    if let Some(missing) = compare_recipients(message, &found.recipients, generations) {
        let found: Vec<_> =
            found.recipients.iter().map(|found| String::from_utf8_lossy(&found.address)).collect();
        return Err(format!("has the wrong recipients, from {missing:?} on: {found:?}"));
    }
    Ok(())
}

const fn protocol(message: &Message) -> u8 {
    match (message.origin.address, message.origin.is_extended) {
        (None, _) => b'L',
        (_, true) => b'E',
        (_, false) => b'S',
    }
}

/// The first recipient that is not as it was said, or the text `more`.
fn compare_recipients(
    message: &Message,
    found: &[queue_reader::Recipient],
    generations: RangeInclusive<u64>,
) -> Option<String> {
    let mut rest = found;
    let mut seen = BTreeSet::new();
    for said in &message.recipients {
        if !may_be_there(message, said) {
            continue;
        }
        let expansions = generations.clone().map(|generation| expand(said, generation));
        // What one generation makes the same as an earlier recipient another does not.
        let matching = expansions.into_iter().filter_map(|mut expected| {
            expected.retain(|recipient| !seen.contains(&key(recipient)));
            rest.starts_with(&expected).then_some(expected)
        });
        let matching = matching.max_by_key(Vec::len);
        match matching {
            Some(expected) => {
                rest = &rest[expected.len()..];
                seen.extend(expected.iter().map(key));
            }
            // Its reply was not read: it may have been refused.
            None if said.is_accepted.is_none() => {}
            None => return Some(said.address.clone()),
        }
    }
    (!rest.is_empty()).then(|| "more".to_owned())
}

/// The first recipient whose expansion is to be reported and is not, or the text `more`. In each generation of tables the same
/// addresses have aliases.
fn compare_expanded(message: &Message, found: &[queue_reader::Recipient], generation: u64) -> Option<String> {
    let mut rest = found;
    let is_reported = |said: &&Recipient| said.notify & 2 != 0 && said.aliases(generation).is_some();
    for said in message.recipients.iter().filter(|said| may_be_there(message, said)).filter(is_reported) {
        match rest.split_first() {
            Some((first, others)) if *first == queued(said, said.address.clone(), said.notify) => {
                rest = others
            }
            // Its reply was not read: it may have been refused.
            _ if said.is_accepted.is_none() => {}
            _ => return Some(said.address.clone()),
        }
    }
    (!rest.is_empty()).then(|| "more".to_owned())
}

/// Whether a recipient was taken, or may have been: where another was refused for now there is room for one more.
fn may_be_there(message: &Message, said: &Recipient) -> bool {
    let is_refused = |other: &Recipient| other.answer == Answer::Taken && other.is_accepted == Some(false);
    match said.answer {
        _ if said.is_accepted == Some(false) => false,
        Answer::Taken => true,
        Answer::Surplus => message.recipients.iter().any(is_refused),
        Answer::Denied => false,
    }
}

/// A recipient as the queue has it.
fn expand(said: &Recipient, generation: u64) -> Vec<queue_reader::Recipient> {
    let aliases = said.aliases(generation);
    // The expansion is reported instead of success.
    let notify = match (&aliases, said.notify) {
        (Some(_), 2) => 1,
        (Some(_), notify) => notify & !2,
        (None, notify) => notify,
    };
    let addresses = aliases.unwrap_or_else(|| vec![said.address.clone()]);
    addresses.into_iter().map(|address| queued(said, address, notify)).collect()
}

/// A recipient with another address and other wishes.
fn queued(said: &Recipient, address: String, notify: u8) -> queue_reader::Recipient {
    queue_reader::Recipient {
        original: (address != said.address).then(|| said.address.clone().into_bytes()),
        address: address.into_bytes(),
        notify: Some(notify).filter(|notify| *notify > 0),
        dsn_original: said.original.as_ref().map(|original| format!("rfc822;{original}").into_bytes()),
    }
}

type Key = (Vec<u8>, Vec<u8>, Option<u8>, Option<Vec<u8>>);

/// Two recipients with the same key are one.
fn key(recipient: &queue_reader::Recipient) -> Key {
    let lower = |text: &Vec<u8>| text.to_ascii_lowercase();
    (
        lower(&recipient.address),
        lower(recipient.original.as_ref().unwrap_or(&recipient.address)),
        recipient.notify,
        recipient.dsn_original.as_ref().map(lower),
    )
}

/// Our own field, but for its date.
pub(super) fn compare_trace_field(message: &Message, found: &[u8], id: &str) -> Result<(), String> {
    let found = String::from_utf8_lossy(found);
    let one = |recipient: &Recipient| format!("\r\n\tfor <{}>; ", recipient.address);
    let taken = || message.recipients.iter().filter(|said| may_be_there(message, said));
    let many = ";\r\n\t".to_owned();
    // Of those whose reply was not read it is not known whether they count.
    let unknown = taken().filter(|said| said.is_accepted.is_none()).count();
    let ends: Vec<String> = match taken().count() {
        1 => taken().map(one).collect(),
        _ if unknown == 0 => vec![many],
        _ => taken().map(one).chain([many]).collect(),
    };
    let origin = &message.origin;
    let front = match origin.address {
        None => format!("Received: by localhost (Mailrace, from userid {USER_ID})\r\n\tid {id}; "),
        Some((address, _)) => {
            let address = match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("IPv6:{address}"),
            };
            let with = match (message.smtputf8, origin.is_extended) {
                (true, _) => "UTF8SMTP",
                (false, true) => "ESMTP",
                (false, false) => "SMTP",
            };
            format!("Received: from {} (unknown [{address}])\r\n\tby {HOST} with {with} id {id}", origin.helo)
        }
    };
    let rest = found.strip_prefix(&front);
    let is_right = match (origin.address, rest) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(_), Some(rest)) => ends.iter().any(|end| rest.starts_with(end.as_str())),
    };
    if is_right && found.ends_with("\r\n") {
        return Ok(());
    }
    Err(format!("has a trace field that is not {front:?} with one of {ends:?}: {found:?}"))
}
