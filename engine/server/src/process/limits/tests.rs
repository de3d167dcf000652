use crate::config::{Configuration, Sources, Tables};

use super::*;

#[test]
fn more_connections_than_the_system_allows_are_refused() {
    let set = vec!["engine.max_connections=1000000".to_owned()];
    let configuration = Configuration::load(&Sources { set, ..Sources::default() }).unwrap();
    let settings = configuration.worker_settings(1, &Tables::default());
    let before = rustix::process::getrlimit(Resource::Nofile);
    // More descriptors than any Linux allows (fs.nr_open).
    let said = raise_open_files(Kernel::Epoll, u16::MAX, &settings, 0, 0).unwrap_err().to_string();
    let is_known =
        said.contains("raise it (ulimit -Hn, or LimitNOFILE= of the service), or lower max_connections");
    assert!(is_known || said.starts_with("cannot raise the limit of open files: "), "{said}");
    assert_eq!(rustix::process::getrlimit(Resource::Nofile), before);
}

#[test]
fn a_limit_that_is_enough_stays() {
    let configuration = Configuration::load(&Sources::default()).unwrap();
    let settings =
        WorkerSettings { max_connections: 0, ..configuration.worker_settings(1, &Tables::default()) };
    let before = rustix::process::getrlimit(Resource::Nofile);
    if before.current.is_none_or(|current| current >= OTHER_FILES + SPARE_CONNECTIONS as u64) {
        raise_open_files(Kernel::Ring, 1, &settings, 0, 0).unwrap();
        assert_eq!(rustix::process::getrlimit(Resource::Nofile), before);
    }
}
