//! Owns a private Postfix as a peer: it accepts and queues, and delivers nothing unless asked to.
//!
//! Usually no queue manager runs, so that only what Mailrace does too is measured. Durability, limits and processes
//! are Postfix's defaults, except where a default would only measure the missing queue manager (its flow
//! control) or the single address that all load comes from (limits for each client).

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{END_TIME_MAX, POLL, Peer, PeerError, START_TIME_MAX, Setting, free_address, spawn, tail};

/// A Postfix instance with its own configuration, queue and port.
pub struct Postfix {
    address: SocketAddr,
    directory: PathBuf,
    master: u32,
    trigger: Option<Trigger>,
}

/// Replaces the queue manager's trigger: reads what cleanup writes there.
struct Trigger {
    path: PathBuf,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Postfix {
    /// Why it cannot be measured here, if so.
    pub fn obstacle() -> Option<&'static str> {
        if program("postfix").is_none() {
            Some("Postfix is not installed (Debian: apt-get install postfix)")
        } else if !rustix::process::geteuid().is_root() {
            Some("Postfix can only be started by root")
        } else {
            None
        }
    }

    /// Makes an instance and starts it.
    ///
    /// # Errors
    /// [`PeerError`] when it does not come up.
    pub fn start(setting: &Setting) -> Result<Self, PeerError> {
        Self::start_with(setting, "")
    }

    /// The same with more lines of main.cf, which win over its own.
    ///
    /// # Errors
    /// [`PeerError`] when it does not come up.
    pub fn start_with(setting: &Setting, lines: &str) -> Result<Self, PeerError> {
        Self::start_as(setting, lines, false)
    }

    /// The same with a queue manager: it delivers what it accepts.
    ///
    /// # Errors
    /// [`PeerError`] when it does not come up.
    pub fn start_delivering(setting: &Setting, lines: &str) -> Result<Self, PeerError> {
        Self::start_as(setting, lines, true)
    }

    fn start_as(setting: &Setting, lines: &str, delivers: bool) -> Result<Self, PeerError> {
        let directory = setting.directory_of("postfix")?;
        let address = free_address()?;
        make_directories(&directory)?;
        write(&directory.join("etc/main.cf"), &(without(&main_cf(&directory), lines) + lines))?;
        let manager = if delivers { "qmgr unix n - n 300 1 qmgr\n" } else { "" };
        write(&directory.join("etc/master.cf"), &(master_cf(address) + manager))?;
        let trigger = match delivers {
            true => None,
            false => Some(Trigger::start(&directory.join("spool/public/qmgr"))?),
        };
        let program = program("postfix").unwrap_or_else(|| PathBuf::from("postfix"));
        let output = directory.join("output");
        let file = File::create(&output).map_err(PeerError::on(&output))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(directory.join("etc")).arg("start").env_remove("MAIL_CONFIG");
        let log = file.try_clone().map_err(PeerError::on(&output))?;
        let mut child = spawn(command.stdin(Stdio::null()).stdout(file).stderr(log), setting.cpu)?;
        let status = child.wait().map_err(PeerError::at("waiting for postfix"))?;
        let mut postfix = Self { address, directory, master: 0, trigger };
        if !status.success() {
            return Err(postfix.failed());
        }
        postfix.wait_until_ready()?;
        Ok(postfix)
    }

    /// The content of the message with this queue id, as `postcat` prints it: LF line ends.
    ///
    /// # Errors
    /// [`PeerError`] when there is no such message.
    pub fn content(&self, id: &str) -> Result<Vec<u8>, PeerError> {
        self.print(&self.file_of(id)?, "-bh")
    }

    /// The envelope of the message with this queue id, as `postcat` prints it.
    ///
    /// # Errors
    /// [`PeerError`] when there is no such message.
    pub fn envelope(&self, id: &str) -> Result<Vec<u8>, PeerError> {
        self.print(&self.file_of(id)?, "-e")
    }

    /// Whether the message with this queue id is on hold; `None` if there is no such message.
    #[must_use]
    pub fn is_held(&self, id: &str) -> Option<bool> {
        let path = self.file_of(id).ok()?;
        Some(path.parent().is_some_and(|parent| parent.ends_with("hold")))
    }

    /// Submits a message with Postfix's `sendmail` and waits until it is in the queue: its queue id, or the exit status and
    /// what was said.
    ///
    /// # Errors
    /// [`PeerError`] when it cannot be run, or the message does not come.
    pub fn submit(&self, arguments: &[&str], message: &[u8]) -> Result<Result<String, String>, PeerError> {
        let finished = || -> Result<Vec<PathBuf>, PeerError> {
            let mut files = files(&self.queue())?;
            files.retain(|path| fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o100 != 0));
            Ok(files)
        };
        let before = finished()?;
        let mut command = Command::new(program("sendmail").unwrap_or_else(|| PathBuf::from("sendmail")));
        command.arg("-C").arg(self.directory.join("etc")).args(arguments).env_remove("MAIL_CONFIG");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(PeerError::at("running sendmail"))?;
        if let Some(mut input) = child.stdin.take() {
            // It may have seen enough.
            let _ = input.write_all(message);
        }
        let output = child.wait_with_output().map_err(PeerError::at("running sendmail"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            return Ok(Err(format!("{}: {said}", output.status.code().unwrap_or(-1))));
        }
        let give_up = Instant::now() + START_TIME_MAX;
        loop {
            let new = finished()?.into_iter().find(|path| !before.contains(path));
            if let Some(name) = new.as_deref().and_then(Path::file_name) {
                return Ok(Ok(name.to_string_lossy().into_owned()));
            }
            if Instant::now() > give_up {
                return Err(self.failed());
            }
            sleep(POLL);
        }
    }

    fn file_of(&self, id: &str) -> Result<PathBuf, PeerError> {
        let mut paths = files(&self.directory.join("spool/incoming"))?;
        paths.append(&mut files(&self.directory.join("spool/hold"))?);
        let path = paths.into_iter().find(|path| path.file_name().is_some_and(|name| name == id));
        path.ok_or_else(|| PeerError::Failed {
            program: "postfix".to_owned(),
            message: format!("has no message {id}"),
        })
    }

    fn print(&self, path: &Path, what: &str) -> Result<Vec<u8>, PeerError> {
        let mut command = Command::new(program("postcat").unwrap_or_else(|| PathBuf::from("postcat")));
        command.arg("-c").arg(self.directory.join("etc")).arg(what).arg(path).env_remove("MAIL_CONFIG");
        command.output().map(|output| output.stdout).map_err(PeerError::at("running postcat"))
    }

    fn wait_until_ready(&mut self) -> Result<(), PeerError> {
        let give_up = Instant::now() + START_TIME_MAX;
        while TcpStream::connect(self.address).is_err() {
            if Instant::now() > give_up {
                return Err(self.failed());
            }
            sleep(POLL);
        }
        let path = self.directory.join("spool/pid/master.pid");
        let text = fs::read_to_string(&path).map_err(PeerError::on(&path))?;
        self.master = text.trim().parse().map_err(|_| self.failed())?;
        Ok(())
    }

    fn failed(&self) -> PeerError {
        let mut message = tail(&self.directory.join("output"));
        message.push_str(&tail(&self.directory.join("log/mail.log")));
        PeerError::Failed { program: "postfix".to_owned(), message }
    }

    fn queue(&self) -> PathBuf {
        self.directory.join("spool/incoming")
    }
}

impl Peer for Postfix {
    fn name(&self) -> &'static str {
        "postfix"
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.master
    }

    fn empty(&mut self) -> Result<(), PeerError> {
        for path in files(&self.queue())? {
            fs::remove_file(&path).map_err(PeerError::on(&path))?;
        }
        Ok(())
    }

    fn held(&mut self) -> Result<Option<u64>, PeerError> {
        // A queue file is finished when its owner may execute it.
        let is_finished =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o100 != 0);
        Ok(Some(files(&self.queue())?.iter().filter(|path| is_finished(path)).count() as u64))
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if let Some(program) = program("postfix") {
            let mut command = Command::new(program);
            command.arg("-c").arg(self.directory.join("etc")).arg("stop").env_remove("MAIL_CONFIG");
            let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        if let Some(trigger) = self.trigger.take() {
            trigger.end();
        }
        // Its processes keep the file system busy until they are gone.
        let spool = self.directory.join("spool");
        let give_up = Instant::now() + END_TIME_MAX;
        while Instant::now() < give_up && working_in(&spool) {
            sleep(POLL);
        }
    }
}

/// Whether a process has its working directory in `directory`, as all of Postfix's have in their queue.
fn working_in(directory: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|working| working.starts_with(directory))
    })
}

/// All files below a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>, PeerError> {
    let mut found = Vec::new();
    let mut to_visit = vec![directory.to_owned()];
    while let Some(directory) = to_visit.pop() {
        for entry in fs::read_dir(&directory).map_err(PeerError::on(&directory))?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                to_visit.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn make_directories(directory: &Path) -> Result<(), PeerError> {
    let owner = number_in("/etc/passwd", "postfix")?;
    let group = number_in("/etc/group", "postdrop")?;
    for (name, mode, owner, group) in [
        ("etc", 0o755, 0, None),
        ("log", 0o755, owner, None),
        ("data", 0o700, owner, None),
        ("spool", 0o755, 0, None),
        ("spool/pid", 0o755, 0, None),
        ("spool/maildrop", 0o730, owner, Some(group)),
        ("spool/public", 0o710, owner, Some(group)),
    ] {
        make_directory(&directory.join(name), mode, owner, group)?;
    }
    for name in QUEUES.iter().chain(&["private", "saved"]) {
        make_directory(&directory.join("spool").join(name), 0o700, owner, None)?;
    }
    let log = directory.join("log/mail.log");
    write(&log, "")?;
    chown(&log, Some(owner), None).map_err(PeerError::on(&log))
}

fn make_directory(path: &Path, mode: u32, owner: u32, group: Option<u32>) -> Result<(), PeerError> {
    fs::create_dir_all(path).map_err(PeerError::on(path))?;
    chown(path, Some(owner), group).map_err(PeerError::on(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(PeerError::on(path))
}

/// The third field of the line of `name`: a user's or group's number.
fn number_in(table: &str, name: &str) -> Result<u32, PeerError> {
    let path = Path::new(table);
    let text = fs::read_to_string(path).map_err(PeerError::on(path))?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name));
    line.and_then(|line| line.split(':').nth(2)?.parse().ok()).ok_or_else(|| PeerError::Failed {
        program: table.to_owned(),
        message: format!("has no {name}: is Postfix installed?"),
    })
}

impl Trigger {
    fn start(path: &Path) -> Result<Self, PeerError> {
        let failed = |source: std::io::Error| PeerError::File { path: path.to_owned(), source };
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o622), 0)
            .map_err(|error| failed(error.into()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o622)).map_err(failed)?;
        // Open for writing too, so that it does not end while there is no writer.
        let mut fifo = File::options().read(true).write(true).open(path).map_err(failed)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut octets = [0; 4096];
            while !flag.load(Ordering::Acquire) && fifo.read(&mut octets).is_ok() {}
        });
        Ok(Self { path: path.to_owned(), is_over, thread })
    }

    /// Lets go of the file, which would keep its file system busy.
    fn end(self) {
        self.is_over.store(true, Ordering::Release);
        let woken = File::options().write(true).open(&self.path).and_then(|mut fifo| fifo.write_all(b"W"));
        if woken.is_ok() {
            let _ = self.thread.join();
        }
    }
}

/// Leaves out the parameters that `lines` sets. Each Postfix daemon warns of a parameter that is set twice, and postlogd,
/// which logs its own warnings to itself, may then wait forever.
fn without(main_cf: &str, lines: &str) -> String {
    let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let set: Vec<String> = lines.lines().map(name).collect();
    main_cf.split_inclusive('\n').filter(|line| !set.contains(&name(line))).collect()
}

fn main_cf(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "compatibility_level = 3.6\nqueue_directory = {directory}/spool\ndata_directory = {directory}/data\n\
         maillog_file = {directory}/log/mail.log\nmaillog_file_prefixes = {directory}\n\
         myhostname = mx.example.com\nmydomain = example.com\nmyorigin = example.com\n\
         mydestination = mx.example.com, localhost\nrelay_domains = example.com\nmynetworks =\n\
         relay_recipient_maps =\nlocal_recipient_maps =\nalias_maps =\nalias_database =\n\
         inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nrecipient_delimiter = +\n\
         message_size_limit = 52428800\nmailbox_size_limit = 0\nsmtpd_tls_security_level = none\n\
         smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
         smtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\n\
         disable_dns_lookups = yes\nsmtp_host_lookup = native\nin_flow_delay = 0s\n"
    )
}

fn master_cf(address: SocketAddr) -> String {
    format!(
        "{address} inet n - n - - smtpd\n\
         pickup unix n - n 60 1 pickup\n\
         cleanup unix n - n - 0 cleanup\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         verify unix - - n - 1 verify\n\
         flush unix n - n 1000? 0 flush\n\
         proxymap unix - - n - - proxymap\n\
         smtp unix - - n - - smtp\n\
         relay unix - - n - - smtp\n\
         showq unix n - n - - showq\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         discard unix - - n - - discard\n\
         anvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         postlog unix-dgram n - n - 1 postlogd\n"
    )
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn write(path: &Path, text: &str) -> Result<(), PeerError> {
    fs::write(path, text).map_err(PeerError::on(path))
}

const QUEUES: [&str; 9] =
    ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "trace"];
