use alloc::sync::Arc;
use alloc::vec;
use std::sync::Mutex;

use super::*;
use crate::Sharer;
use crate::address::{Domains, RewriteContext, Rewriting};
use crate::lookup::LookupTable;

type Asked = Arc<Mutex<Vec<alloc::string::String>>>;

/// A table that has some keys, and records what it is asked.
#[derive(Debug)]
struct Recorded {
    name: &'static str,
    keys: &'static [&'static str],
    asked: Asked,
}

impl LookupTable for Recorded {
    fn look_up<'a>(&'a self, _: &'a Bump, key: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        let key = core::str::from_utf8(key).unwrap();
        self.asked.lock().unwrap().push(alloc::format!("{} {key}", self.name));
        Ok(self.keys.contains(&key).then_some(b"x"))
    }
}

fn maps(asked: &Asked, name: &'static str, keys: &'static [&'static str]) -> Maps {
    Maps::new(vec![Arc::new(Recorded { name, keys, asked: Arc::clone(asked) })])
}

/// A server of one domain of each class, all of whose tables are empty.
fn settings(asked: &Asked) -> Settings {
    let class = |name| ClassTables { maps: maps(asked, name, &[]), ..ClassTables::default() };
    let origin = b"here.example".to_vec();
    let local = RewriteContext { origin, domain: vec![] };
    Settings {
        myhostname: b"mx.here.example".to_vec(),
        rewriting: Arc::new(Rewriting { local, ..Rewriting::default() }),
        destinations: Arc::new(Destinations {
            mydestination: ["here.example"].into_iter().collect(),
            virtual_alias_domains: ["alias.example"].into_iter().collect(),
            virtual_mailbox_domains: ["box.example"].into_iter().collect(),
            relay_domains: ["relay.example"].into_iter().collect(),
            own_addresses: vec![[192, 0, 2, 1].into()],
        }),
        listed_addresses: Arc::new(ListedAddresses {
            recipient_canonical_maps: maps(asked, "recipient", &[]),
            sender_canonical_maps: maps(asked, "sender", &[]),
            canonical_maps: maps(asked, "canonical", &[]),
            virtual_alias_maps: maps(asked, "alias", &[]),
            local: class("local"),
            virtual_mailbox: class("mailbox"),
            relay: class("relay"),
            recipient_delimiter: b"+".to_vec(),
            ..ListedAddresses::default()
        }),
        ..Settings::default()
    }
}

fn ask(settings: &Settings, side: Side, address: &str) -> Result<Option<DomainClass>, LookupError> {
    let validated = Validated { side, address: address.as_bytes(), other: b"" };
    let arena = Bump::new();
    let fault = fault(settings, &validated, &arena, Sharer::default().into())?;
    Ok(fault.map(|fault| match fault {
        Fault::Unlisted(class) => class,
        Fault::DeadEnd(dead_end) => panic!("{dead_end:?} without routes"),
    }))
}

/// The tables that are searched for an address, each once.
fn searched(side: Side, address: &str) -> Vec<alloc::string::String> {
    let asked = Asked::default();
    ask(&settings(&asked), side, address).unwrap();
    let mut tables: Vec<_> =
        asked.lock().unwrap().iter().map(|asked| asked.split_once(' ').unwrap().0.into()).collect();
    tables.dedup();
    tables
}

#[test]
fn tables_are_searched_in_postfixs_order() {
    for (address, own) in
        [("u@here.example", "local"), ("u@box.example", "mailbox"), ("u@relay.example", "relay")]
    {
        assert_eq!(searched(Side::Recipient, address), ["recipient", "canonical", "alias", own]);
        assert_eq!(searched(Side::Sender, address), ["recipient", "sender", "canonical", "alias", own]);
    }
    assert_eq!(searched(Side::Recipient, "u@alias.example"), ["recipient", "canonical", "alias"]);
    for address in ["u@foreign.example", "postmaster@here.example", "MAILER-DAEMON@[192.0.2.1]"] {
        assert_eq!(searched(Side::Sender, address), [""; 0], "{address}");
    }
}

#[test]
fn each_class_has_its_own_keys() {
    for (address, keys) in [
        ("a.b+x@relay.example", &["a.b+x@relay.example", "a.b@relay.example", "@relay.example"][..]),
        ("a+x@here.example", &["a+x@here.example", "a@here.example", "a+x", "a", "@here.example"]),
        ("a@[192.0.2.1]", &["a@[192.0.2.1]", "a", "@[192.0.2.1]"]),
        (
            "a b@here.example",
            &["\"a b\"@here.example", "a b@here.example", "\"a b\"", "a b", "@here.example"],
        ),
        ("a", &["a@here.example", "a", "@here.example"]),
        ("a%relay.example@here.example", &["a@relay.example", "@relay.example"]),
        ("a@relay.example.", &["a@relay.example", "@relay.example"]),
    ] {
        let asked = Asked::default();
        let mut settings = settings(&asked);
        let listed = Arc::make_mut(&mut settings.listed_addresses);
        for other in
            [&mut listed.recipient_canonical_maps, &mut listed.canonical_maps, &mut listed.virtual_alias_maps]
        {
            *other = Maps::default();
        }
        assert!(ask(&settings, Side::Recipient, address).unwrap().is_some());
        let asked = asked.lock().unwrap();
        let found: Vec<_> = asked.iter().map(|asked| asked.split_once(' ').unwrap().1).collect();
        assert_eq!(found, keys, "{address}");
    }
}

#[test]
fn the_first_list_that_has_a_domain_is_its_class() {
    let all = || ["here.example", "u.example"].into_iter().collect::<Domains>();
    let mut settings = settings(&Asked::default());
    let destinations = Arc::make_mut(&mut settings.destinations);
    let class = |settings: &Settings| ask(settings, Side::Recipient, "u@u.example").unwrap().unwrap();
    destinations.relay_domains = all();
    assert_eq!(class(&settings), DomainClass::Relay);
    Arc::make_mut(&mut settings.destinations).virtual_mailbox_domains = all();
    assert_eq!(class(&settings), DomainClass::VirtualMailbox);
    Arc::make_mut(&mut settings.destinations).virtual_alias_domains = all();
    assert_eq!(class(&settings), DomainClass::VirtualAlias);
    Arc::make_mut(&mut settings.destinations).mydestination = all();
    assert_eq!(class(&settings), DomainClass::Local);
}

/// A table that has the domain is asked once, by the relay check.
#[test]
fn without_tables_nothing_is_searched() {
    let asked = Asked::default();
    let mut relay_domains = Domains::default();
    relay_domains.add_tables(maps(&asked, "domains", &["relay.example"]), false);
    let canonical_maps = maps(&asked, "canonical", &[]);
    let settings = Settings {
        destinations: Arc::new(Destinations { relay_domains, ..Destinations::default() }),
        listed_addresses: Arc::new(ListedAddresses {
            smtpd_reject_unlisted_sender: true,
            canonical_maps,
            ..ListedAddresses::default()
        }),
        smtpd_forbid_unauth_pipelining: false,
        ..Settings::default()
    };
    let mut session = Session::new(crate::Origin::default(), false);
    let mut notes = Silent;
    let mut context = crate::smtp::Context {
        settings: &settings,
        wall: crate::Timestamp::default(),
        is_storage_low: false,
        observer: &mut notes,
    };
    let mut replies = Vec::new();
    let input = b"MAIL FROM:<a@relay.example>\r\nRCPT TO:<b@relay.example>\r\n";
    let mut rest = &input[..];
    while !rest.is_empty() {
        let step = session.feed(&mut context, rest, &mut replies);
        rest = &rest[step.consumed..];
    }
    assert!(replies.ends_with(b"250 2.1.5 Ok\r\n"), "{}", replies.escape_ascii());
    assert_eq!(*asked.lock().unwrap(), ["domains relay.example"]);
}

struct Silent;

impl crate::smtp::Observer for Silent {
    fn replied(&mut self, _code: u16) {}
    fn rejected(&mut self, _origin: &crate::Origin, _reject: &crate::smtp::Reject<'_>) {}
}

/// Routes by the other side of the envelope: mail of `bad@client.example` leads nowhere. Records whose routes it is asked for.
#[derive(Debug)]
struct BySender(Asked);

impl Routes for BySender {
    fn dead_end<'a>(
        &self,
        arena: &'a Bump,
        sender: &[u8],
        address: &[u8],
        _: Asker<'_>,
    ) -> Result<Option<DeadEnd<'a>>, LookupError> {
        let text = |octets| core::str::from_utf8(octets).unwrap();
        self.0.lock().unwrap().push(alloc::format!("route {} {}", text(sender), text(address)));
        let text = arena.alloc_slice_copy(b"not you");
        Ok((sender == b"bad@client.example").then_some(DeadEnd { is_temporary: false, status: None, text }))
    }

    fn may_wait(&self) -> bool {
        false
    }
}

fn with_routes(asked: &Asked) -> Settings {
    let mut settings = settings(asked);
    Arc::make_mut(&mut settings.listed_addresses).routes = Some(Arc::new(BySender(Arc::clone(asked))));
    settings
}

/// The lookups for a recipient of mail from a sender, each table once, and whether its route is at fault.
fn looked_up(sender: &str, address: &str) -> (Vec<alloc::string::String>, bool) {
    let asked = Asked::default();
    let settings = with_routes(&asked);
    let validated =
        Validated { side: Side::Recipient, address: address.as_bytes(), other: sender.as_bytes() };
    let arena = Bump::new();
    let fault = fault(&settings, &validated, &arena, Sharer::default().into()).unwrap();
    let mut tables: Vec<_> =
        asked.lock().unwrap().iter().map(|asked| asked.split_once(' ').unwrap().0.into()).collect();
    tables.dedup();
    (tables, matches!(fault, Some(Fault::DeadEnd(_))))
}

#[test]
fn a_route_is_looked_up_before_the_tables_and_judged_after_the_aliases() {
    let of_all = ["route", "recipient", "canonical", "alias"];
    let local = ["route", "recipient", "canonical", "alias", "local"];
    for (sender, address, tables, is_dead_end) in [
        ("good@client.example", "u@foreign.example", &of_all[..1], false),
        ("bad@client.example", "u@foreign.example", &of_all, true),
        ("bad@client.example", "u@here.example", &of_all, true),
        ("bad@client.example", "postmaster@here.example", &of_all, true),
        ("good@client.example", "u@here.example", &local, false),
        ("good@client.example", "postmaster@here.example", &of_all[..1], false),
        ("bad@client.example", "u@alias.example", &of_all[1..], false),
    ] {
        let (found, is_found) = looked_up(sender, address);
        assert_eq!(
            (&found[..], is_found),
            (&tables.iter().map(|table| (*table).into()).collect::<Vec<_>>()[..], is_dead_end),
            "{sender} {address}"
        );
    }
}

#[test]
fn an_address_with_an_alias_needs_no_route() {
    for name in ["recipient", "canonical", "alias"] {
        let asked = Asked::default();
        let mut settings = with_routes(&asked);
        let listed = Arc::make_mut(&mut settings.listed_addresses);
        let maps = maps(&asked, name, &["u@foreign.example"]);
        match name {
            "recipient" => listed.recipient_canonical_maps = maps,
            "canonical" => listed.canonical_maps = maps,
            _ => listed.virtual_alias_maps = maps,
        }
        let other = b"bad@client.example";
        let validated = Validated { side: Side::Recipient, address: b"u@foreign.example", other };
        let arena = Bump::new();
        assert_eq!(fault(&settings, &validated, &arena, Sharer::default().into()), Ok(None), "{name}");
    }
}

#[test]
fn a_dead_end_has_the_status_of_its_side() {
    use crate::record::delivery::Status;
    let reply = |side, is_temporary, status: Option<[u8; 3]>| -> alloc::string::String {
        let status = status.map(|[class, subject, detail]| Status {
            class,
            subject: subject.into(),
            detail: detail.into(),
        });
        let mut out = Vec::new();
        DeadEnd { is_temporary, status, text: b"x" }.reply(side, b"a").write(&mut out, b"");
        alloc::string::String::from_utf8(out).unwrap().split('>').next().unwrap().into()
    };
    for (status, sender, recipient) in [
        (None, "5.1.0", "5.1.1"),
        (Some([5, 1, 0]), "5.1.0", "5.1.0"),
        (Some([5, 1, 1]), "5.1.7", "5.1.1"),
        (Some([5, 1, 2]), "5.1.8", "5.1.2"),
        (Some([5, 1, 3]), "5.1.7", "5.1.3"),
        (Some([5, 1, 4]), "5.1.7", "5.1.4"),
        (Some([5, 1, 5]), "5.1.0", "5.1.5"),
        (Some([5, 1, 6]), "5.1.7", "5.1.6"),
        (Some([5, 1, 7]), "5.1.7", "5.1.3"),
        (Some([5, 1, 8]), "5.1.8", "5.1.2"),
        (Some([5, 1, 9]), "5.1.0", "5.1.9"),
        (Some([4, 7, 1]), "5.7.1", "5.7.1"),
        (Some([2, 1, 5]), "5.1.0", "5.1.5"),
    ] {
        assert_eq!(reply(Side::Sender, false, status), alloc::format!("550 {sender} <a"), "{status:?}");
        assert_eq!(reply(Side::Recipient, false, status), alloc::format!("550 {recipient} <a"), "{status:?}");
    }
    assert_eq!(reply(Side::Recipient, true, Some([5, 1, 2])), "450 4.1.2 <a");
    assert_eq!(reply(Side::Sender, true, None), "450 4.1.0 <a");
}
