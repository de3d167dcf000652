//! Tables of a dialogue's server.

use std::sync::Arc;

use bumpalo::Bump;
use mailrace_core::Sharer;
use mailrace_core::address::Destinations;
use mailrace_core::lookup::{Asker, LookupError, LookupTable, Maps};
use mailrace_core::smtp::{DeadEnd, ListedAddresses, Routes, Settings};

/// A table that cannot say whether it has `broken.example`, and has nothing else.
#[derive(Debug)]
pub(crate) struct Broken;

impl LookupTable for Broken {
    fn look_up<'a>(&'a self, _: &'a Bump, key: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        if key == b"broken.example" { Err(LookupError::Unavailable) } else { Ok(None) }
    }
}

/// The aliases of a case.
#[derive(Debug)]
pub(crate) struct Aliases(pub(crate) Vec<(String, String)>);

impl LookupTable for Aliases {
    fn look_up<'a>(&'a self, _: &'a Bump, key: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        let found = self.0.iter().find(|(known, _)| known.as_bytes() == key);
        Ok(found.map(|(_, value)| value.as_bytes()))
    }
}

/// A table with these keys, in any case. It cannot say whether it has a key that begins with `broken@`.
#[derive(Debug)]
struct Keys(Vec<String>);

impl LookupTable for Keys {
    fn look_up<'a>(&'a self, _: &'a Bump, key: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        if key.starts_with(b"broken@") {
            return Err(LookupError::Unavailable);
        }
        let has_key = self.0.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(key));
        Ok(has_key.then_some(b"x"))
    }
}

/// Routes that lead nowhere for these addresses.
#[derive(Debug)]
struct DeadEnds(Vec<String>);

impl Routes for DeadEnds {
    fn dead_end<'a>(
        &self,
        _: &'a Bump,
        _: &[u8],
        address: &[u8],
        _: Asker<'_>,
    ) -> Result<Option<DeadEnd<'a>>, LookupError> {
        let is_known = self.0.iter().any(|known| known.as_bytes() == address);
        Ok(is_known.then_some(DeadEnd { is_temporary: false, status: None, text: b"no way out" }))
    }

    fn may_wait(&self) -> bool {
        false
    }
}

/// Takes the parameters that name domains and the addresses in them; returns whether `name` is one.
pub(crate) fn list_addresses(settings: &mut Settings, name: &str, value: &str) -> bool {
    let words = || value.split_ascii_whitespace();
    let maps = || Maps::new(vec![Arc::new(Keys(words().map(str::to_owned).collect()))]);
    let listed: &mut ListedAddresses = Arc::make_mut(&mut settings.listed_addresses);
    let destinations: &mut Destinations = Arc::make_mut(&mut settings.destinations);
    let code = || value.parse().expect("a reply code is a number");
    match name {
        "mydestination" => destinations.mydestination = words().collect(),
        "virtual_alias_domains" => destinations.virtual_alias_domains = words().collect(),
        "virtual_mailbox_domains" => destinations.virtual_mailbox_domains = words().collect(),
        "smtpd_reject_unlisted_recipient" => listed.smtpd_reject_unlisted_recipient = value == "yes",
        "smtpd_reject_unlisted_sender" => listed.smtpd_reject_unlisted_sender = value == "yes",
        "recipient_canonical_maps" => listed.recipient_canonical_maps = maps(),
        "sender_canonical_maps" => listed.sender_canonical_maps = maps(),
        "canonical_maps" => listed.canonical_maps = maps(),
        "local_recipient_maps" => listed.local.maps = maps(),
        "relay_recipient_maps" => listed.relay.maps = maps(),
        "virtual_mailbox_maps" => listed.virtual_mailbox.maps = maps(),
        "unknown_local_recipient_reject_code" => listed.local.reject_code = code(),
        "unknown_relay_recipient_reject_code" => listed.relay.reject_code = code(),
        "unknown_virtual_alias_reject_code" => listed.unknown_virtual_alias_reject_code = code(),
        "unknown_virtual_mailbox_reject_code" => listed.virtual_mailbox.reject_code = code(),
        "error_transport_for" => {
            listed.routes = Some(Arc::new(DeadEnds(words().map(str::to_owned).collect())));
        }
        "recipient_delimiter" => listed.recipient_delimiter = value.into(),
        _ => return false,
    }
    true
}
