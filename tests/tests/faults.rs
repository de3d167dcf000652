//! Machines that fail under a running engine: what it says, what it refuses, and that all it had accepted is there.
//! Those that need loop devices run as root and are skipped loudly otherwise.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailrace_dev::error::ProofError;
use mailrace_dev::proof::engine::{Engine, look};
use mailrace_dev::proof::life::Load;
use mailrace_dev::proof::sender::Session;
use mailrace_dev::rig::cache::Export;
use mailrace_dev::rig::device::{LoopDevice, Mount, Place, make_ext4, require_root};
use mailrace_io::sim::Random;
use mailrace_peers::Program;
use mailrace_postmark::{Account, Fate, Ledger, add_promises};
use mailrace_tests::{Client, Directory, available, program, skip, skip_on_this_machine};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

/// Which messages are whose.
const RUN: u32 = 0xfa;
/// What a test waits for comes within a few seconds; a test that hangs is to fail.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine and what its clients know.
struct Bench {
    program: Program,
    queue: PathBuf,
    ledger: Arc<Ledger>,
    random: Random,
    engine: Engine,
}

impl Bench {
    fn new(queue: &Path, settings: &[&str]) -> Self {
        let program = Program::find(Some(program().to_owned())).unwrap();
        let engine = Self::engine(&program, queue, settings);
        let (queue, ledger) = (queue.to_owned(), Arc::new(Ledger::new(RUN)));
        Self { program, queue, ledger, random: Random::new(1, "test"), engine }
    }

    fn engine(program: &Program, queue: &Path, settings: &[&str]) -> Engine {
        // Troubles are looked at as often as tables.
        let all =
            ["engine.workers=1", "engine.table_check_period=1s"].into_iter().chain(settings.iter().copied());
        let all: Vec<&str> = all.flat_map(|setting| ["--set", setting]).collect();
        Engine::start_with(program, queue, |command| command.args(all)).unwrap()
    }

    fn session(&self) -> Session {
        Session::open(self.engine.address).unwrap()
    }

    /// Sends messages until one is refused, or accepted.
    fn send_until(&mut self, session: &mut Session, is_accepted: bool) {
        let start = Instant::now();
        while session.send(&self.ledger, &mut self.random).unwrap() != is_accepted {
            assert!(start.elapsed() < PATIENCE, "{:#?}", self.engine.said());
        }
    }

    /// Waits until the engine has logged this event, and what there is to say of it contains `text`.
    fn heard(&mut self, event: &str, text: &str) {
        let start = Instant::now();
        while !self.engine.said().iter().any(|said| said.event == event && said.message.contains(text)) {
            self.engine.require_alive().unwrap();
            assert!(start.elapsed() < PATIENCE, "{event} {text:?} is missing: {:#?}", self.engine.said());
            std::thread::yield_now();
        }
    }

    fn load(&mut self) -> Load {
        Load::start(&self.program, &self.engine, &self.queue, &self.ledger, &mut self.random)
    }

    fn accepted(&self) -> usize {
        self.ledger.snapshot().iter().filter(|letter| matches!(letter.fate, Fate::Accepted(_))).count()
    }

    fn wait_for_accepted(&mut self, count: usize) {
        let start = Instant::now();
        while self.accepted() < count {
            self.engine.require_alive().unwrap();
            assert!(start.elapsed() < PATIENCE, "{} accepted", self.accepted());
            std::thread::yield_now();
        }
    }

    /// All that is known holds of the queue in `directory`.
    fn account(&self, directory: &Path) -> Account {
        let letters = self.ledger.snapshot();
        let account = Account::new(&letters, &letters, RUN, &look(&self.program, directory).unwrap());
        assert!(account.is_right(), "{account}");
        account
    }

    /// The engine ends, and another one has all that was accepted.
    fn restart(mut self) -> Self {
        self.engine.kill();
        self.account(&self.queue);
        self.engine = Self::engine(&self.program, &self.queue, &[]);
        self.account(&self.queue);
        let mut session = self.session();
        self.send_until(&mut session, true);
        self.account(&self.queue);
        self
    }
}

/// A file system of its own; fields go from the last to the first that was set up.
struct SmallDisk {
    mount: Mount,
    device: LoopDevice,
    _place: Place,
}

impl SmallDisk {
    fn new(size: u64, options: &str) -> Option<Self> {
        available(Self::make(size, options))
    }

    fn make(size: u64, options: &str) -> Result<Self, ProofError> {
        require_root()?;
        let place = Place::new(&std::env::temp_dir())?;
        let device = LoopDevice::attach(&place.sparse("disk.img", size)?, true)?;
        make_ext4(device.path())?;
        let mount = Mount::new(device.path(), &place.join("mount"), "ext4", options)?;
        Ok(Self { mount, device, _place: place })
    }

    fn queue(&self) -> PathBuf {
        self.mount.directory().join("queue")
    }

    /// Fills it except for this many bytes; returns the file that takes the room.
    fn fill(&self, name: &str, rest: u64) -> PathBuf {
        let path = self.mount.directory().join(name);
        let mut file = File::create(&path).unwrap();
        let piece = vec![0; 64 << 10];
        while file.write_all(&piece).is_ok() {}
        file.sync_all().unwrap();
        file.set_len(file.metadata().unwrap().len().saturating_sub(rest)).unwrap();
        file.sync_all().unwrap();
        path
    }
}

const MIB: u64 = 1 << 20;

#[test]
fn refuses_mail_on_a_full_disk_until_there_is_space() {
    let Some(disk) = SmallDisk::new(96 * MIB, "noatime") else { return };
    let mut bench = Bench::new(&disk.queue(), &["message_size_limit=300000", "queue.spare_segments=1"]);
    // Room for a few segments of 2 MiB; then less than one, and more than keeps MAIL from being refused.
    let large = disk.fill("large", 9 * MIB);
    let mut session = bench.session();
    bench.send_until(&mut session, false);
    let mut client = Client::introduced(bench.engine.address);
    client.say("MAIL FROM:<a@example.org>", "250 ");
    client.say("RCPT TO:<b@localhost>", "250 ");
    client.say("DATA", "354 ");
    client.send(&[&[b'x'; 290_000][..], b"\r\n"].concat());
    client.say(".", "452 4.3.1 ");
    bench.heard("queue_unavailable", "cannot create a segment: No space left on device");
    let small = disk.fill("small", 0);
    let start = Instant::now();
    loop {
        client.send(b"MAIL FROM:<a@example.org>\r\n");
        let reply = client.reply();
        if reply.starts_with("452 4.3.1 ") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{reply}");
        client.say("RSET", "250 ");
    }
    bench.account(&bench.queue);
    fs::remove_file(small).unwrap();
    fs::remove_file(large).unwrap();
    bench.send_until(&mut session, true);
    bench.heard("queue_available", "");
    bench.restart().engine.stop().unwrap();
}

#[test]
fn refuses_mail_on_a_file_system_that_became_read_only() {
    let Some(disk) = SmallDisk::new(128 * MIB, "noatime,errors=remount-ro") else { return };
    let mut bench = Bench::new(&disk.queue(), &[]);
    let load = bench.load();
    bench.wait_for_accepted(100);
    let before = bench.ledger.snapshot();
    // As ext4 does when it finds itself damaged.
    let name = disk.device.path().rsplit('/').next().unwrap();
    fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "a test").unwrap();
    let mut session = bench.session();
    bench.send_until(&mut session, false);
    bench.heard("queue_unavailable", "cannot create a segment: ");
    drop(load);
    bench.engine.require_alive().unwrap();
    bench.engine.kill();
    let Bench { program, queue, ledger, .. } = &bench;
    // What was refused for a write that failed may be there: nothing could be noted about it any more.
    let (mut known, after) = (before, ledger.snapshot());
    add_promises(&mut known, &after);
    let look = || {
        let account = Account::new(&known, &after, RUN, &look(program, queue).unwrap());
        assert!(account.is_right(), "{account}");
    };
    let SmallDisk { _place, device, mount } = disk;
    drop(mount);
    let mount = Mount::new(device.path(), &_place.join("mount"), "ext4", "noatime").unwrap();
    look();
    let engine = Engine::start(program, queue).unwrap();
    look();
    assert!(Session::open(engine.address).unwrap().send(ledger, &mut Random::new(2, "test")).unwrap());
    engine.stop().unwrap();
    drop(mount);
}

/// A disk that a daemon serves: with other devices between it and its file.
struct ServedDisk {
    mount: Mount,
    device: LoopDevice,
    export: Export,
    place: Place,
}

impl ServedDisk {
    fn make(devices: &[&str], node: &str) -> Result<Self, ProofError> {
        require_root()?;
        let memory = Path::new("/dev/shm");
        let place = Place::new(if memory.is_dir() { memory } else { Path::new("/tmp") })?;
        let disk = place.sparse("disk.img", 128 * MIB)?;
        let mut all = vec![format!("driver=file,node-name=disk,filename={}", disk.display())];
        all.extend(devices.iter().map(|device| (*device).to_owned()));
        let served = place.join("served.img");
        let export = Export::start(&all, node, &served, 128 * MIB)?;
        let device = LoopDevice::attach(&served, false)?;
        make_ext4(device.path())?;
        let mount = Mount::new(device.path(), &place.join("mount"), "ext4", "noatime")?;
        Ok(Self { mount, device, export, place })
    }
}

#[test]
fn a_failing_disk_loses_no_accepted_mail() {
    let Some(disk) = available(ServedDisk::make(&[], "disk")) else { return };
    let mut bench = Bench::new(&disk.mount.directory().join("queue"), &[]);
    let load = bench.load();
    bench.wait_for_accepted(100);
    let before = bench.ledger.snapshot();
    // They go from the last to the first.
    let ServedDisk { place, mut export, device, mount } = disk;
    // From here on each read, write and flush ends with EIO.
    export.kill();
    let mut session = bench.session();
    bench.send_until(&mut session, false);
    bench.heard("queue_unavailable", "");
    drop(load);
    bench.engine.require_alive().unwrap();
    bench.engine.kill();
    drop((mount, device));
    drop(export);
    let device = LoopDevice::attach(&place.join("disk.img"), false).unwrap();
    let mount = Mount::new(device.path(), &place.join("mount"), "ext4", "noatime").unwrap();
    let (mut known, after) = (before, bench.ledger.snapshot());
    add_promises(&mut known, &after);
    let account = Account::new(&known, &after, RUN, &look(&bench.program, &bench.queue).unwrap());
    assert!(account.is_right(), "{account}");
    let engine = Engine::start(&bench.program, &bench.queue).unwrap();
    assert!(Session::open(engine.address).unwrap().send(&bench.ledger, &mut Random::new(2, "test")).unwrap());
    engine.stop().unwrap();
    drop(mount);
}

#[test]
fn a_slow_disk_loses_nothing_and_memory_stays_bounded() {
    const OPERATIONS: u32 = 150;
    let throttle = format!("throttle-group,id=slow,x-iops-total={OPERATIONS}");
    let devices = [throttle.as_str(), "driver=throttle,node-name=throttled,throttle-group=slow,file=disk"];
    let Some(disk) = available(ServedDisk::make(&devices, "throttled")) else { return };
    let mut bench = Bench::new(&disk.mount.directory().join("queue"), &["queue.spare_segments=1"]);
    let load = bench.load();
    bench.wait_for_accepted(200);
    let status = format!("/proc/{}/status", bench.engine.pid().as_raw_nonzero());
    drop(load);
    let status = fs::read_to_string(status).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200 << 10, "{peak} KiB");
    bench.account(&bench.queue);
    bench.restart().engine.stop().unwrap();
}

#[test]
fn refuses_mail_after_the_queue_directory_was_removed() {
    let directory = Directory::new();
    let queue = directory.path().join("queue");
    let mut bench = Bench::new(&queue, &[]);
    let mut session = bench.session();
    bench.send_until(&mut session, true);
    let aside = directory.path().join("aside");
    fs::rename(&queue, &aside).unwrap();
    bench.send_until(&mut session, false);
    bench.heard("queue_unavailable", "its directory was removed or replaced");
    bench.account(&aside);
    // It was a mistake.
    fs::rename(&aside, &queue).unwrap();
    bench.send_until(&mut session, true);
    bench.heard("queue_available", "");
    bench.account(&queue);
    // It was none. Under another name nothing is created in it while it is removed.
    fs::rename(&queue, &aside).unwrap();
    fs::remove_dir_all(&aside).unwrap();
    bench.send_until(&mut session, false);
    bench.engine.require_alive().unwrap();
    bench.engine.kill();
    bench.ledger.all_deleted();
    bench.engine = Bench::engine(&bench.program, &queue, &[]);
    let mut session = bench.session();
    bench.send_until(&mut session, true);
    assert_eq!(bench.account(&queue).expected, 1);
    bench.engine.stop().unwrap();
}

#[test]
fn refuses_mail_after_part_of_the_queue_was_replaced() {
    for part in ["segments", "maildrop", "lock"] {
        let directory = Directory::new();
        let queue = directory.path().join("queue");
        let mut bench = Bench::new(&queue, &[]);
        let mut session = bench.session();
        bench.send_until(&mut session, true);
        // Another one takes its place, with all that is in it.
        let (original, aside, copy) = (queue.join(part), queue.join("aside"), queue.join("copy"));
        // What the keeper renames meanwhile may be missing in the copy.
        std::process::Command::new("cp").arg("-a").arg(&original).arg(&copy).output().unwrap();
        fs::rename(&original, &aside).unwrap();
        fs::rename(&copy, &original).unwrap();
        bench.send_until(&mut session, false);
        bench.heard("queue_unavailable", &format!("{part} in its directory was removed or replaced"));
        // Nothing that was accepted went into what is aside.
        if part == "segments" {
            fs::rename(&original, &copy).unwrap();
        } else {
            fs::remove_dir_all(&original).or_else(|_| fs::remove_file(&original)).unwrap();
        }
        fs::rename(&aside, &original).unwrap();
        bench.send_until(&mut session, true);
        bench.heard("queue_available", "");
        bench.account(&queue);
        bench.engine.stop().unwrap();
    }
}

#[test]
fn refuses_mail_while_descriptors_are_exhausted() {
    let directory = Directory::new();
    let mut bench = Bench::new(&directory.path().join("queue"), &["queue.spare_segments=1"]);
    let pid = bench.engine.pid();
    let limit = getrlimit(Resource::Nofile);
    let mut session = bench.session();
    bench.send_until(&mut session, true);
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
    bench.send_until(&mut session, false);
    bench.heard("queue_unavailable", "cannot create a segment: Too many open files");
    let mut waiting = None;
    if std::env::var("MAILRACE_TEST_IO").is_ok_and(|io| io == "epoll") {
        // A client that connects now stays in the kernel's queue.
        waiting = Some(TcpStream::connect(bench.engine.address).unwrap());
    } else {
        // Connections are descriptors of the ring, not of the process.
        let mut others: Vec<Client> = (0..50).map(|_| Client::introduced(bench.engine.address)).collect();
        others.iter_mut().for_each(|client| drop(client.say("NOOP", "250 ")));
    }
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(4096), ..limit }).unwrap();
    if let Some(mut client) = waiting {
        let mut code = [0; 4];
        client.read_exact(&mut code).unwrap();
        assert_eq!(&code, b"220 ");
    }
    bench.send_until(&mut session, true);
    bench.heard("queue_available", "");
    bench.restart().engine.stop().unwrap();
}

#[test]
fn a_clock_set_back_causes_no_duplicate_id() {
    let Some(library) = faketime() else {
        return skip("libfaketime is not installed: apt-get install libfaketime");
    };
    let directory = Directory::new();
    let queue = directory.path().join("queue");
    let clock = directory.write("clock", "+86400\n");
    let program = Program::find(Some(program().to_owned())).unwrap();
    let engine = Engine::start_with(&program, &queue, |command| {
        command
            .env("LD_PRELOAD", &library)
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .args(["--set", "engine.workers=1"])
    })
    .unwrap();
    let ledger = Arc::new(Ledger::new(RUN));
    let mut bench = Bench { program, queue, ledger, random: Random::new(1, "test"), engine };
    let mut session = bench.session();
    let send =
        |bench: &mut Bench, session: &mut Session| (0..20).for_each(|_| bench.send_until(session, true));
    send(&mut bench, &mut session);
    let tomorrow = arrival(&bench);
    let _ = directory.write("clock", "-86400\n");
    // The same session: what it waits for is no time of day.
    send(&mut bench, &mut session);
    let yesterday = arrival(&bench);
    assert!(yesterday < tomorrow, "{yesterday} {tomorrow}: the clock was not set back");
    bench = bench.restart();
    let mut session = bench.session();
    send(&mut bench, &mut session);
    bench.account(&bench.queue);
    let letters = bench.ledger.snapshot();
    let ids: Vec<&str> = letters
        .iter()
        .filter_map(|letter| if let Fate::Accepted(id) = &letter.fate { Some(id.as_str()) } else { None })
        .collect();
    assert!(ids.len() > 60 && ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    bench.engine.stop().unwrap();
}

/// When the last message came, as its trace field says.
fn arrival(bench: &Bench) -> String {
    let listed = bench.program.queue(&bench.queue, ["list", "--json"]).unwrap();
    let last = String::from_utf8(listed).unwrap().lines().last().unwrap().to_owned();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    last["arrival"].as_str().unwrap().to_owned()
}

fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// A control group that is removed when the value is dropped.
struct Group {
    directory: PathBuf,
    limit: &'static str,
}

impl Group {
    /// In the second version of control groups, or the first.
    fn new() -> Option<Self> {
        let name = format!("mailrace-test-{}", std::process::id());
        for (root, limit) in
            [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]
        {
            let group = Self { directory: Path::new(root).join(&name), limit };
            if fs::create_dir(&group.directory).is_err() {
                continue;
            }
            if group.directory.join(limit).exists() {
                return Some(group);
            }
        }
        None
    }

    /// Moves a process in; what memory it takes from now on is limited.
    fn take(&self, bench: &Bench, octets: u64) {
        fs::write(self.directory.join(self.limit), octets.to_string()).unwrap();
        let pid = bench.engine.pid().as_raw_nonzero().to_string();
        fs::write(self.directory.join("cgroup.procs"), pid).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.directory);
    }
}

/// A client whose content is awaited.
fn in_content(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    client.set_write_timeout(Some(Duration::from_millis(1)))?;
    let mut said = String::new();
    let mut memory = [0; 1024];
    for (command, reply) in
        [("EHLO x\r\n", "250 "), ("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@localhost>\r\nDATA\r\n", "354 ")]
    {
        client.write_all(command.as_bytes())?;
        while !said.contains(reply) {
            let count = client.read(&mut memory)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            said.push_str(&String::from_utf8_lossy(&memory[..count]));
        }
    }
    Ok(client)
}

#[test]
fn an_out_of_memory_kill_loses_no_accepted_mail() {
    let Some(group) = Group::new() else {
        return skip_on_this_machine("no control group for memory can be made here");
    };
    let directory = Directory::new();
    let mut bench = Bench::new(&directory.path().join("queue"), &[]);
    let mut session = bench.session();
    (0..20).for_each(|_| bench.send_until(&mut session, true));
    group.take(&bench, MIB);
    // Clients whose content waits in memory for its end.
    let mut others = Vec::new();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = bench.engine.ended() {
            break status;
        }
        assert!(start.elapsed() < PATIENCE, "it was not killed");
        if others.len() < 200
            && let Ok(client) = in_content(bench.engine.address)
        {
            others.push(client);
        }
        for mut client in &others {
            let _ = client.write_all(&[&[b'x'; 900][..], b"\r\n"].concat().repeat(60));
        }
    };
    assert_eq!(status.signal(), Some(9), "{:#?}", bench.engine.said());
    bench = bench.restart();
    assert!(bench.account(&bench.queue).expected > 20);
    bench.engine.stop().unwrap();
}
