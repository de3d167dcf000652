//! How a test reaches an `Io` over the operating system: by its sockets and files.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{BrokenFiles, Client};
use crate::{Endpoint, FileKind, Io, Operation, OsDisk, OsFile, Token};

impl Client for TcpStream {
    fn address(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }

    fn say(&mut self, octets: &[u8]) {
        self.write_all(octets).unwrap();
    }

    fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        self.read_exact(&mut octets).unwrap();
        octets
    }

    fn hear_some(&mut self) -> Vec<u8> {
        self.set_nonblocking(true).unwrap();
        let mut octets = vec![0; 1 << 20];
        let count = match self.read(&mut octets) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            result => result.unwrap(),
        };
        self.set_nonblocking(false).unwrap();
        octets.truncate(count);
        octets
    }

    fn hear_end(&mut self) {
        assert_eq!(self.read(&mut [0]).unwrap(), 0);
    }

    fn end(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

pub(crate) fn listen_on_the_system<I: Io>(io: &mut I, address: IpAddr) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0))?;
    let target = listener.local_addr()?;
    io.submit(Token(1), Operation::Accept(listener));
    Ok(target)
}

pub(crate) fn nobody_on_the_system() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A listener at a path. The ends that it accepts are used as those of TCP are, but for their address.
pub(crate) fn serve_on_the_system(place: &Directory) -> (Endpoint, impl FnMut() -> TcpStream + use<>) {
    let path = place.0.join("server");
    let listener = UnixListener::bind(&path).unwrap();
    let accept = move || TcpStream::from(OwnedFd::from(listener.accept().unwrap().0));
    (Endpoint::Unix(path.into()), accept)
}

/// A device that takes no writes, and a directory.
pub(crate) fn broken_files_of_the_system<I: Io<Disk = OsDisk>>(io: &mut I) -> BrokenFiles {
    const ENOSPC: i32 = 28;
    const EISDIR: i32 = 21;
    let device = File::options().write(true).open("/dev/full").unwrap();
    let directory = File::open("/").unwrap();
    BrokenFiles {
        unwritable: (io.attach(OsFile::of_any_kind(device, FileKind::Buffered)), ENOSPC),
        unreadable: (io.attach(OsFile::of_any_kind(directory, FileKind::Read)), EISDIR),
    }
}

/// A directory that is removed when it is dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> (OsDisk, Self) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mailrace-io-{}-{number}", std::process::id()));
        (OsDisk::new(&path).unwrap(), Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
