use crate::config::{Configuration, Sources};

use super::*;

fn parameters(listen: &str, congestion_control: &str) -> ConnectionParameters {
    let set = vec![format!("engine.congestion_control=\"{congestion_control}\"")];
    let sources = Sources { listen: vec![listen.to_owned()], set, ..Sources::default() };
    Configuration::load(&sources).unwrap().connections
}

fn refused(parameters: &ConnectionParameters) -> String {
    listen(parameters, 1).unwrap_err().to_string()
}

#[test]
fn the_sockets_of_all_workers_share_a_port() {
    let sockets = listen(&parameters("127.0.0.1:0", ""), 3).unwrap();
    assert_eq!(sockets.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    let addresses: Vec<String> = sockets.iter().flat_map(|sockets| addresses_of(sockets)).collect();
    assert!(
        addresses.iter().all(|address| *address == addresses[0] && !address.ends_with(":0")),
        "{addresses:?}"
    );
}

/// The port could be shared with another engine, which would get some of the connections.
#[test]
fn an_address_in_use_is_refused() {
    let sockets = listen(&parameters("127.0.0.1:0", ""), 1).unwrap();
    let address = sockets[0][0].local_addr().unwrap();
    let said = refused(&parameters(&address.to_string(), ""));
    assert!(said.starts_with(&format!("cannot listen on {address}: ")), "{said}");
    assert!(said.contains("; stop the program that listens there"), "{said}");
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let said = refused(&parameters("192.0.2.1:0", ""));
    assert!(
        said.contains("192.0.2.1:0") && said.ends_with("; this machine does not have that address"),
        "{said}"
    );
}

#[test]
fn an_unknown_congestion_control_is_refused() {
    let said = refused(&parameters("127.0.0.1:0", "no_such_control"));
    assert!(said.ends_with("; check listen and congestion_control in [engine]"), "{said}");
}
