use super::*;

#[test]
fn an_address_that_cannot_be_used_has_a_remedy() {
    let address: SocketAddr = "[2001:db8::1]:25".parse().unwrap();
    for (kind, remedy) in [
        (
            io::ErrorKind::AddrInUse,
            "; stop the program that listens there, or set another address with listen in [engine] or --listen",
        ),
        (io::ErrorKind::PermissionDenied, "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"),
        (io::ErrorKind::AddrNotAvailable, "; this machine does not have that address"),
        (io::ErrorKind::NotFound, "; check listen and congestion_control in [engine]"),
    ] {
        let said = StartError::Listen { address, source: kind.into() }.to_string();
        assert!(said.starts_with("cannot listen on [2001:db8::1]:25: ") && said.ends_with(remedy), "{said}");
    }
}

#[test]
fn every_error_names_its_cause() {
    use std::error::Error;

    let source = || io::Error::other("the cause");
    let path = || PathBuf::from("/queue");
    for (error, start) in [
        (
            StartError::Directory { path: path(), source: source() },
            "cannot use the queue directory /queue: the cause; set directory",
        ),
        (StartError::Log(source()), "cannot start the log: the cause"),
        (system("start a thread")(source()), "cannot start a thread: the cause"),
    ] {
        assert!(error.to_string().starts_with(start), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "the cause");
    }
}
