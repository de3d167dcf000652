use mailrace_core::smtp::{Context, Event, Observer, Reject, Session, Settings};
use mailrace_core::{Origin, Timestamp};

use crate::config::{Tables, check};
use crate::tables::Lookups;

/// Sessions of a server of `here.test` and `relay.test` with these parameters.
fn settings(text: &str) -> Settings {
    let configuration = check(&format!(
        "myhostname = \"mx.here.test\"\nmyorigin = \"here.test\"\nmydestination = [\"here.test\"]\n\
         relay_domains = [\"relay.test\"]\nrecipient_delimiter = \"+\"\nmynetworks = []\n{text}"
    ))
    .unwrap();
    let tables = configuration.open_tables(&Lookups::default(), &Tables::default()).unwrap();
    configuration.worker_settings(1, &tables).smtp
}

/// Reasons of refusals.
#[derive(Default)]
struct Reasons(Vec<String>);

impl Observer for Reasons {
    fn replied(&mut self, _code: u16) {}

    fn rejected(&mut self, _origin: &Origin, reject: &Reject<'_>) {
        self.0.push(reject.reason.to_owned());
    }
}

/// Plays commands to a session, and returns the reply to each and the reasons of the refusals.
fn play<'c>(
    settings: &Settings,
    is_trusted: bool,
    commands: impl IntoIterator<Item = &'c str>,
) -> (Vec<String>, Vec<String>) {
    let mut session = Session::new(Origin::default(), is_trusted);
    let mut reasons = Reasons::default();
    let mut context =
        Context { settings, wall: Timestamp::default(), is_storage_low: false, observer: &mut reasons };
    let play = |command: &str| {
        let (line, mut replies) = (format!("{command}\r\n"), Vec::new());
        let step = session.feed(&mut context, line.as_bytes(), &mut replies);
        assert_eq!((step.consumed, step.event), (line.len(), Event::NeedInput), "{command}");
        String::from_utf8(replies).unwrap().trim_end_matches("\r\n").to_owned()
    };
    let replies = commands.into_iter().map(play).collect();
    (replies, reasons.0)
}

/// Asserts the replies to recipients of mail from a trusted client; each is what Postfix 3.7.11 replies.
fn assert_recipients(text: &str, sender: &str, recipients: &[(&str, &str)]) {
    let settings = settings(text);
    for (address, expected) in recipients {
        let commands = ["EHLO x", &format!("MAIL FROM:<{sender}>"), &format!("RCPT TO:<{address}>")];
        let (replies, _) = play(&settings, true, commands);
        let expected = match *expected {
            "ok" => "250 2.1.5 Ok".to_owned(),
            refusal => {
                let (code, text) = refusal.split_at(9);
                format!("{code} <{address}>: {text}")
            }
        };
        assert_eq!(replies[2], expected, "{text}");
    }
}

#[test]
fn transport_maps_refuse_in_the_session() {
    assert_recipients(
        "transport_maps = \"inline:{a.test=error:text, {b.test=error:5.7.1 text b}, {c.test=error:4.7.1 text c}, \
         {d.test=retry:4.2.1 text d}, e.test=error:, f.test=retry:, h.test=error, {k.test=error:5.1.7 snd}, \
         n.test=discard:gone, {o.test=retry:5.1.1 five}, p.test=error:5.1.2, {x@here.test=error:5.1.1 none}, \
         {postmaster@here.test=error:5.1.1 no pm}, relay.test=error:}\"",
        "s@client.test",
        &[
            ("u@a.test", "550 5.1.1Recipient address rejected: text"),
            ("u@b.test", "550 5.7.1Recipient address rejected: text b"),
            ("u@c.test", "550 5.7.1Recipient address rejected: text c"),
            ("u@d.test", "450 4.2.1Recipient address rejected: text d"),
            ("u@e.test", "550 5.1.1Recipient address rejected: Address is undeliverable"),
            ("u@f.test", "450 4.1.1Recipient address rejected: Address is undeliverable"),
            ("u@h.test", "550 5.1.1Recipient address rejected: Address is undeliverable"),
            ("u@k.test", "550 5.1.3Recipient address rejected: snd"),
            ("u@n.test", "ok"),
            ("u@o.test", "450 4.1.1Recipient address rejected: five"),
            ("u@p.test", "550 5.1.2Recipient address rejected: "),
            ("x+y@here.test", "550 5.1.1Recipient address rejected: none"),
            ("x%b.test@here.test", "550 5.7.1Recipient address rejected: text b"),
            ("postmaster@here.test", "550 5.1.1Recipient address rejected: no pm"),
            ("postmaster", "ok"),
            ("u@relay.test", "550 5.1.1Recipient address rejected: Address is undeliverable"),
            ("u@other.test", "ok"),
        ],
    );
    assert_recipients(
        "transport_maps = \"fail:x\"",
        "",
        &[
            ("u@other.test", "451 4.3.0Temporary lookup failure"),
            ("u@here.test", "451 4.3.0Temporary lookup failure"),
        ],
    );
}

#[test]
fn transports_of_classes_refuse_in_the_session() {
    assert_recipients(
        "default_transport = \"error:no way out\"\nrelayhost = \"[192.0.2.1]\"\n\
         virtual_alias_maps = \"inline:{al@other.test=u@here.test}\"\n\
         canonical_maps = \"inline:{ca@other.test=u@here.test}\"\n\
         sender_canonical_maps = \"inline:{sc@other.test=u@here.test}\"",
        "s@client.test",
        &[
            ("u@other.test", "550 5.1.1Recipient address rejected: no way out"),
            ("u@relay.test", "ok"),
            ("u@here.test", "ok"),
            ("al@other.test", "ok"),
            ("ca@other.test", "ok"),
            ("sc@other.test", "550 5.1.1Recipient address rejected: no way out"),
            ("U@OTHER.test.", "550 5.1.1Recipient address rejected: no way out"),
        ],
    );
    assert_recipients(
        "relay_transport = \"error:4.3.0 relay is down\"",
        "s@client.test",
        &[("u@relay.test", "550 5.3.0Recipient address rejected: relay is down"), ("u@other.test", "ok")],
    );
}

#[test]
fn transports_of_senders_refuse_in_the_session() {
    let text = "sender_dependent_default_transport_maps = \
                \"inline:{{bad@client.test=error:5.7.1 not you}, {<>=error:5.7.1 not null}}\"";
    let refused = "550 5.7.1Recipient address rejected: not you";
    for sender in ["bad@client.test", "bad+x@client.test"] {
        assert_recipients(text, sender, &[("u@other.test", refused), ("u@relay.test", "ok")]);
    }
    assert_recipients(text, "good@client.test", &[("u@other.test", "ok")]);
    assert_recipients(text, "", &[("u@other.test", "550 5.7.1Recipient address rejected: not null")]);
}

/// The sender comes first, then the right to send there, then the recipient; VRFY gives the same refusals.
#[test]
fn the_order_is_postfixs() {
    let text = "relay_recipient_maps = \"inline:{u@relay.test=x}\"\nlocal_recipient_maps = []\n\
                transport_maps = \"inline:{{other.test=error:5.1.2 other}, {n@relay.test=error:5.1.2 relay}}\"\n";
    let commands = ["EHLO x", "MAIL FROM:<s@other.test>", "RCPT TO:<u@other.test>", "RCPT TO:<n@relay.test>"];
    let vrfy = ["VRFY n@relay.test", "VRFY x@relay.test"];
    let (replies, reasons) = play(&settings(text), false, commands.into_iter().chain(vrfy));
    let relay = "550 5.1.2 <n@relay.test>: Recipient address rejected: relay";
    let unlisted =
        "550 5.1.1 <x@relay.test>: Recipient address rejected: User unknown in relay recipient table";
    assert_eq!(replies[2..], ["554 5.7.1 <u@other.test>: Relay access denied", relay, relay, unlisted]);
    let expected =
        ["relay_denied", "undeliverable_recipient", "undeliverable_recipient", "unlisted_recipient"];
    assert_eq!(reasons, expected);
    let sender = "550 5.1.8 <s@other.test>: Sender address rejected: other";
    let text = format!("{text}smtpd_reject_unlisted_sender = true");
    let (replies, reasons) = play(&settings(&text), false, commands);
    assert_eq!(replies[1..], ["250 2.1.0 Ok", sender, sender]);
    assert_eq!(reasons, ["undeliverable_sender"; 2]);
    let text = format!("{text}\nsmtpd_reject_unlisted_recipient = false");
    let (replies, _) = play(&settings(&text), true, ["EHLO x", "MAIL FROM:<>", "RCPT TO:<u@other.test>"]);
    assert_eq!(replies[2], "250 2.1.5 Ok");
}

/// The route of a sender is that of mail from the recipient, so it is validated for each recipient.
#[test]
fn the_route_of_a_sender_depends_on_the_recipient() {
    let text = "smtpd_reject_unlisted_sender = true\nsender_dependent_default_transport_maps = \
                \"inline:{{u@here.test=error:5.7.1 by recipient}}\"";
    let commands = ["EHLO x", "MAIL FROM:<q@other.test>", "RCPT TO:<v@here.test>", "RCPT TO:<u@here.test>"];
    let (replies, _) = play(&settings(text), true, commands);
    let refused = "550 5.7.1 <q@other.test>: Sender address rejected: by recipient";
    assert_eq!(replies[2..], ["250 2.1.5 Ok", refused]);
}

#[test]
fn without_a_dead_end_a_session_looks_up_no_route() {
    for text in ["", "relayhost = \"[192.0.2.1]\"", "default_transport = \"relay\""] {
        assert!(settings(text).listed_addresses.routes.is_none(), "{text}");
    }
    for text in [
        "local_transport = \"error:x\"",
        "virtual_transport = \"retry\"",
        "relay_transport = \"error\"",
        "default_transport = \"retry:x\"",
        "transport_maps = \"inline:{a=error:}\"",
        "sender_dependent_default_transport_maps = \"inline:{a@b.test=error:}\"",
    ] {
        assert!(settings(text).listed_addresses.routes.is_some(), "{text}");
    }
}
