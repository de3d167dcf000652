use std::sync::Arc;

use mailrace_core::Sharer;
use mailrace_core::record::delivery::Status;

use super::*;
use crate::config::{Tables, check};
use crate::tables::Lookups;

/// What resolves by a configuration with a domain of each class.
pub(crate) fn resolver(text: &str) -> Resolver {
    let configuration = check(&format!(
        "myhostname = \"mx.example.com\"\nmydestination = [\"example.com\", \"Here.test\"]\n\
         virtual_alias_domains = [\"alias.test\"]\nvirtual_mailbox_domains = [\"box.test\"]\n\
         relay_domains = [\"relayed.test\"]\nrecipient_delimiter = \"+\"\n{text}"
    ));
    let configuration = configuration.unwrap();
    let tables = configuration.open_tables(&Lookups::default(), &Tables::default()).unwrap();
    let session = configuration.worker_settings(1, &tables).smtp;
    configuration.resolver(Arc::clone(&session.destinations), Arc::clone(&session.rewriting), &tables)
}

/// `TRANSPORT:NEXTHOP` of mail from a sender.
fn way(resolver: &Resolver, sender: &str, address: &str) -> String {
    let asker = Sharer::default().into();
    let resolved = resolver.resolve(sender.as_bytes(), address.as_bytes(), asker, &mut |_| {});
    resolved.map_or_else(|error| format!("{error:?}"), |resolved| resolved.way.to_string())
}

fn assert_ways(text: &str, ways: &[(&str, &str)]) {
    let resolver = resolver(text);
    for (address, expected) in ways {
        assert_eq!(way(&resolver, "sender@client.test", address), *expected, "{text}\n{address}");
    }
}

#[test]
fn each_class_has_its_transport() {
    let classes = [
        ("a@example.com", "local:mx.example.com"),
        ("a@HERE.test.", "local:mx.example.com"),
        ("a@[127.0.0.1]", "local:mx.example.com"),
        ("a@alias.test", "error:5.1.1 User unknown in virtual alias table"),
        ("a@box.test", "virtual:box.test"),
        ("a@relayed.test", "relay:relayed.test"),
        ("a@sub.relayed.test", "relay:sub.relayed.test"),
        ("a@other.test", "smtp:other.test"),
        ("", "error:5.1.3 null recipient address"),
        ("a@b c", "error:5.1.3 bad address syntax"),
        ("a@-x.test", "error:5.1.3 bad address syntax"),
        ("a@[x]", "error:5.1.3 bad address syntax"),
    ];
    assert_ways("", &classes);
}

#[test]
fn the_next_hop_is_the_most_specific() {
    assert_ways(
        "relayhost = \"[192.0.2.1]\"",
        &[
            ("a@relayed.test", "relay:[192.0.2.1]"),
            ("a@other.test", "smtp:[192.0.2.1]"),
            ("a@box.test", "virtual:box.test"),
            ("a@example.com", "local:mx.example.com"),
        ],
    );
    assert_ways(
        "relayhost = \"[192.0.2.1]\"\nrelay_transport = \"smtp:inner.test\"\ndefault_transport = \"relay\"\n\
         virtual_transport = \"lmtp:unix:/run/Store\"\nlocal_transport = \"error:5.1.2 no mail here\"",
        &[
            ("a@relayed.test", "smtp:inner.test"),
            ("a@other.test", "relay:[192.0.2.1]"),
            ("a@box.test", "lmtp:unix:/run/Store"),
            ("a@example.com", "error:5.1.2 no mail here"),
        ],
    );
    assert_ways("default_transport = \"error\"", &[("a@other.test", "error:Address is undeliverable")]);
}

#[test]
fn tables_of_senders_come_before_the_relay_host() {
    let resolver = resolver(
        "relayhost = \"[192.0.2.1]\"\nrelay_transport = \"relay\"\n\
         sender_dependent_relayhost_maps = \"inline:{a@client.test=[a.relay], @client.test=[any.relay], <>=[null.relay], \
         none@client.test=dunno}\"\n\
         sender_dependent_default_transport_maps = \"inline:{slow@client.test=slow:, x@client.test=relay:[x.relay], \
         <>=DUNNO, {bad@client.test=error:5.7.1 not you}}\"",
    );
    for (sender, address, expected) in [
        ("a@client.test", "r@other.test", "smtp:[a.relay]"),
        ("A+ext@Client.TEST", "r@other.test", "smtp:[a.relay]"),
        ("b@client.test", "r@other.test", "smtp:[any.relay]"),
        ("none@client.test", "r@other.test", "smtp:[192.0.2.1]"),
        ("a@elsewhere.test", "r@other.test", "smtp:[192.0.2.1]"),
        ("", "r@other.test", "smtp:[null.relay]"),
        ("a@client.test", "r@relayed.test", "relay:[a.relay]"),
        ("slow@client.test", "r@other.test", "slow:[any.relay]"),
        ("x@client.test", "r@other.test", "relay:[x.relay]"),
        ("x@client.test", "r@relayed.test", "relay:[any.relay]"),
        ("bad@client.test", "r@other.test", "error:5.7.1 not you"),
        ("a@client.test", "r@example.com", "local:mx.example.com"),
    ] {
        assert_eq!(way(&resolver, sender, address), expected, "{sender} {address}");
    }
}

#[test]
fn transport_maps_are_searched_from_the_address_to_the_star() {
    let text = "relayhost = \"[192.0.2.1]\"\ntransport_maps = \"inline:{one+ext@exact.test=smtp:[ext], \
        one@exact.test=smtp:[one], exact.test=smtp:[exact], .parent.test=smtp:[below], parent.test=lmtp:[parent], \
        relayed.test=:[moved], plain.test=smtp:, same.test=:, a@alias.test=smtp:[no], {gone.test=error:5.1.2 no such domain}, \
        here.test=retry:, {box.test=discard:}}\"";
    assert_ways(
        text,
        &[
            ("one+ext@exact.test", "smtp:[ext]"),
            ("One+Other@Exact.test", "smtp:[one]"),
            ("two@exact.test", "smtp:[exact]"),
            ("x@sub.parent.test", "smtp:[below]"),
            ("x@deep.sub.parent.test", "smtp:[below]"),
            ("x@parent.test", "lmtp:[parent]"),
            ("x@relayed.test", "relay:[moved]"),
            ("x@plain.test", "smtp:plain.test"),
            ("x@same.test", "smtp:[192.0.2.1]"),
            ("x@other.test", "smtp:[192.0.2.1]"),
            ("a@alias.test", "error:5.1.1 User unknown in virtual alias table"),
            ("x@gone.test", "error:5.1.2 no such domain"),
            ("x@here.test", "retry:Address is undeliverable"),
            ("x@box.test", "discard:box.test"),
        ],
    );
    let star = "transport_maps = \"inline:{*=smtp:[star], x@b.test=relay:}\"";
    assert_ways(
        star,
        &[("a@b.test", "smtp:[star]"), ("x@b.test", "relay:b.test"), ("a@example.com", "smtp:[star]")],
    );
    let parents = "parent_domain_matches_subdomains = \"transport_maps\"\n\
        transport_maps = \"inline:{parent.test=smtp:[p], .dotted.test=smtp:[d]}\"";
    assert_ways(
        parents,
        &[
            ("a@parent.test", "smtp:[p]"),
            ("a@x.y.parent.test", "smtp:[p]"),
            ("a@x.dotted.test", "smtp:x.dotted.test"),
        ],
    );
}

#[test]
fn a_table_without_an_answer_has_no_way() {
    assert_ways(
        "transport_maps = \"fail:x\"",
        &[
            ("a@other.test", "Unavailable"),
            ("a@alias.test", "error:5.1.1 User unknown in virtual alias table"),
        ],
    );
    assert_ways(
        "sender_dependent_relayhost_maps = \"fail:x\"",
        &[("a@other.test", "Unavailable"), ("a@box.test", "virtual:box.test")],
    );
}

#[test]
fn steps_are_explained() {
    let resolver = resolver("transport_maps = \"inline:{.test=smtp:[t]}\"\nrelayhost = \"[r]\"");
    let mut steps = Vec::new();
    let asker = Sharer::default().into();
    resolver.resolve(b"s@x.test", b"a@b.test", asker, &mut |step| steps.push(format!("{step:?}"))).unwrap();
    let found = Step::Found { parameter: "transport_maps", key: b".test", value: b"smtp:[t]" };
    let expected = [
        Step::Class(DomainClass::Default),
        Step::Parameter("default_transport", "smtp"),
        Step::Parameter("relayhost", "[r]"),
        found,
    ];
    assert_eq!(steps, expected.map(|step| format!("{step:?}")));
}

#[test]
fn statuses_are_split_from_reasons() {
    let status = |class, subject, detail| Some(Status { class, subject, detail });
    for (reason, expected, text) in [
        ("5.1.2 no such domain", status(5, 1, 2), "no such domain"),
        ("4.3.0\tlater", status(4, 3, 0), "later"),
        ("5.1.2", status(5, 1, 2), ""),
        ("3.1.2 x", None, "3.1.2 x"),
        ("5.1.2.3 x", None, "5.1.2.3 x"),
        ("5.1 x", None, "5.1 x"),
        ("5.+1.2 x", None, "5.+1.2 x"),
        ("5.1234.2 x", None, "5.1234.2 x"),
        ("moved away", None, "moved away"),
        ("", None, ""),
    ] {
        assert_eq!(split_status(reason), (expected, text), "{reason}");
    }
}
