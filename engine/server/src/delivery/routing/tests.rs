use super::*;
use crate::config::check;
use crate::tables::Lookups;

fn routing(text: &str) -> (Routing, Configuration, smtp::Settings, Tables) {
    let text = format!(
        "myhostname = \"mx.example.com\"\nmydestination = [\"example.com\"]\nrecipient_delimiter = \"+\"\n\
         virtual_alias_domains = [\"alias.test\"]\nvirtual_mailbox_domains = [\"box.test\"]\n{text}"
    );
    let configuration = check(&text).unwrap();
    let tables = configuration.open_tables(&Lookups::default(), &Tables::default()).unwrap();
    let session = configuration.worker_settings(1, &tables).smtp;
    (Routing::new(&configuration, &session, &tables), configuration, session, tables)
}

fn route(routing: &Routing, address: &str, filter: Option<&str>) -> String {
    let filter = filter.map(|filter| filter.as_bytes().into());
    let envelope = Envelope { content_filter: filter, ..Envelope::default() };
    let recipient = Recipient { address: address.as_bytes().to_vec(), ..Recipient::default() };
    match routing.route(&envelope, &recipient) {
        Routed::To(Route { transport, next_hop, mailbox }) => {
            let mailbox = mailbox.map(|mailbox| String::from_utf8_lossy(&mailbox).into_owned());
            format!(
                "{transport} {next_hop}{}",
                mailbox.map(|mailbox| format!(" {mailbox}")).unwrap_or_default()
            )
        }
        Routed::Decided(outcome) => {
            let cause = outcome.cause();
            format!("{} {} {}", outcome.word(), cause.status, String::from_utf8_lossy(&cause.text))
        }
        Routed::Pending(ticket) => format!("{ticket:?}"),
    }
}

#[test]
fn routes_have_the_number_of_the_transport_and_the_next_hop_in_lower_case() {
    let (routing, ..) = routing(
        "relay_domains = \"r.test\"\ntransport_maps = \"inline:{l.test=lmtp:unix:/run/Store, n.test=nosuch:x}\"\n\
         relay_destination_recipient_limit = 1",
    );
    for (address, expected) in [
        ("a@Other.TEST", "0 other.test"),
        ("Joe+Ext@R.test", "1 r.test joe@r.test"),
        ("a@l.test", "2 unix:/run/Store"),
        ("a@n.test", "deferred 4.3.0 mail transport unavailable"),
        ("a@example.com", "deferred 4.3.0 mail transport unavailable"),
        ("a@box.test", "deferred 4.3.0 mail transport unavailable"),
        ("a@alias.test", "bounced 5.1.1 User unknown in virtual alias table"),
        ("a@b c", "bounced 5.1.3 bad address syntax"),
        ("", "bounced 5.1.3 null recipient address"),
        ("Double-Bounce@example.com", "sent 2.0.0 undeliverable postmaster notification discarded"),
        ("double-bounce@other.test", "0 other.test"),
    ] {
        assert_eq!(route(&routing, address, None), expected, "{address}");
    }
}

#[test]
fn error_retry_and_discard_attempt_nothing() {
    let (routing, ..) = routing(
        "transport_maps = \"inline:{{a.test=error:5.1.2 No such Domain}, {b.test=error:sorry}, {c.test=error:4.3.1 full}, \
         {d.test=retry:later}, {e.test=retry:5.3.2 down}, {f.test=discard:Gone}, {g.test=discard:5.1.1 gone}, \
         {h.test=error:2.1.0 odd}, i.test=error:}\"",
    );
    for (domain, expected) in [
        ("a", "bounced 5.1.2 No such Domain"),
        ("b", "bounced 5.0.0 sorry"),
        ("c", "deferred 4.3.1 full"),
        ("d", "deferred 4.0.0 later"),
        ("e", "deferred 4.3.2 down"),
        ("f", "sent 2.0.0 Gone"),
        ("g", "sent 2.1.1 gone"),
        ("h", "bounced 5.1.0 odd"),
        ("i", "bounced 5.0.0 Address is undeliverable"),
    ] {
        assert_eq!(route(&routing, &format!("x@{domain}.test"), None), expected, "{domain}");
    }
}

#[test]
fn a_content_filter_comes_first() {
    let (routing, ..) = routing("relayhost = \"[192.0.2.1]\"");
    for (filter, expected) in [
        ("smtp:[192.0.2.7]:10025", "0 [192.0.2.7]:10025"),
        ("relay:", "1 alias.test"),
        ("lmtp:unix:/run/Filter", "2 unix:/run/Filter"),
        ("scan:dummy", "deferred 4.3.0 mail transport unavailable"),
    ] {
        assert_eq!(route(&routing, "a@alias.test", Some(filter)), expected, "{filter}");
    }
}

#[test]
fn a_table_that_cannot_answer_defers() {
    let (routing, ..) = routing("transport_maps = \"fail:x\"");
    assert_eq!(route(&routing, "a@other.test", None), "deferred 4.3.0 address resolver failure");
}

#[test]
fn a_table_on_a_server_is_waited_for() {
    // Nothing listens there; the question is under way all the same.
    let (routing, ..) = routing("transport_maps = \"tcp:127.0.0.1:1\"");
    assert!(route(&routing, "a@other.test", None).starts_with("Ticket("));
}

#[test]
fn a_reload_reaches_all_clones() {
    let (routing, ..) = routing("relayhost = \"[192.0.2.1]\"");
    let clone = routing.clone();
    assert_eq!(route(&clone, "a@other.test", None), "0 [192.0.2.1]");
    let (_, configuration, session, tables) = self::routing("relayhost = \"[192.0.2.2]\"");
    routing.replace(&configuration, &session, &tables);
    assert_eq!(route(&clone, "a@other.test", None), "0 [192.0.2.2]");
}
