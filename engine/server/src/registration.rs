//! How `sendmail` finds the queue of the engine that runs with a configuration: that queue may be another than the
//! configuration names (`--queue`, `--set`).
//!
//! The engine listens on an abstract socket that is named after its configuration file, and tells each client where
//! its queue is. The name ends with the process, and leaves no file. Any process may take such a name, so an answer
//! counts only from a process of root, of the own user or of the configuration's owner, which the kernel vouches for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailrace_core::record::spool::checksum;
use socket2::{Domain, SockAddr, Socket, Type};

/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer at most: two paths.
const ANSWER_SIZE_MAX: u64 = 2 * 4096;

/// Answers every client that the engine with the configuration `config` has its queue in `queue`, on a thread that ends
/// with the process.
///
/// # Errors
/// Another process has the name already.
pub(crate) fn publish(config: &Path, queue: &Path) -> io::Result<()> {
    let config = config.canonicalize()?;
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name_of(&config))?)?;
    let answer = [config.as_os_str().as_bytes(), b"\0", queue.as_os_str().as_bytes()].concat();
    std::thread::Builder::new().name("registration".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match stream {
                // Who went away needs no answer.
                Ok(stream) => drop(tell(stream, &answer)),
                // For example, no descriptor is free: some will be later.
                Err(_) => std::thread::park_timeout(Duration::from_millis(100)),
            }
        }
    })?;
    Ok(())
}

fn tell(mut stream: UnixStream, answer: &[u8]) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(answer)
}

/// Where the engine that runs with the configuration `config` has its queue; `None` if there is none that may be believed.
pub(crate) fn queue_of(config: &Path) -> Option<PathBuf> {
    let config = config.canonicalize().ok()?;
    let stream = connect(&config).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?.uid;
    let owner = File::open(&config).and_then(|file| file.metadata()).ok()?.uid();
    if !(peer.is_root() || peer == rustix::process::geteuid() || peer.as_raw() == owner) {
        return None;
    }
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_SIZE_MAX).read_to_end(&mut answer).ok()?;
    let queue = answer.strip_prefix(config.as_os_str().as_bytes())?.strip_prefix(b"\0")?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(queue.to_vec())))
}

/// A process that has the name and does not accept delays callers only briefly.
fn connect(config: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    // A NUL in front makes a name abstract.
    socket.connect(&SockAddr::unix(format!("\0{}", name_of(config)))?)?;
    Ok(socket.into())
}

/// A name has 107 bytes at most, and a path may have more.
fn name_of(config: &Path) -> String {
    format!("mailrace-{:016x}", checksum(config.as_os_str().as_bytes(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_accepts_no_connection_blocks_no_lookup() {
        let config = std::env::temp_dir().join(format!("mailrace-squatted-{}", std::process::id()));
        std::fs::write(&config, "").unwrap();
        let path = config.canonicalize().unwrap();
        let name = SocketAddr::from_abstract_name(name_of(&path)).unwrap();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(format!("\0{}", name_of(&path))).unwrap()).unwrap();
        socket.listen(0).unwrap();
        // The one that the kernel takes for it.
        let _waiting = UnixStream::connect_addr(&name).unwrap();
        assert_eq!(queue_of(&config), None);
        std::fs::remove_file(&config).unwrap();
    }

    #[test]
    fn an_engine_is_found_by_any_path_of_its_configuration() {
        let directory = std::env::temp_dir().join(format!("mailrace-registration-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("sub")).unwrap();
        let config = directory.join("mailrace.toml");
        std::fs::write(&config, "").unwrap();
        assert_eq!(queue_of(&config), None);
        publish(&config, Path::new("/some/queue")).unwrap();
        assert_eq!(queue_of(&config), Some(PathBuf::from("/some/queue")));
        assert_eq!(queue_of(&directory.join("sub/../mailrace.toml")), Some(PathBuf::from("/some/queue")));
        assert!(publish(&config, Path::new("/other")).is_err(), "a name is taken once");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
