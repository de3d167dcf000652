//! Power cuts on real file systems and SIGKILL: a few of each. `mailrace-dev powercut` and `kill9` do as many as wanted.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use mailrace_dev::proof::powercut::{Kind, Settings};
use mailrace_dev::proof::{kill9, powercut};
use mailrace_dev::rig::device::require_root;
use mailrace_dev::rig::leftovers::{loop_devices, mounts};
use mailrace_peers::Program;
use mailrace_tests::{Directory, available, program, skip_on_this_machine};

fn settings(kind: Kind, cuts: u32) -> Settings {
    let program = Program::find(Some(program().to_owned())).unwrap();
    Settings { kind, cuts, seed: 1, program, directory: None }
}

fn nothing_promised_is_lost(kind: Kind, cuts: u32) {
    let mut told = String::new();
    let result = powercut::run(&settings(kind, cuts), &AtomicBool::new(false), &mut |text| {
        told += text;
        told += "\n";
    });
    let Some(account) = available(result) else { return };
    assert!(account.is_right(), "{told}");
    assert!(account.expected + account.deleted + account.doubtful_there > 0, "nothing was sent: {told}");
}

fn a_careless_writer_is_found_out(kind: Kind) {
    let result = powercut::control(&settings(kind, 1), &AtomicBool::new(false), &mut |text| {
        eprintln!("{text}");
    });
    assert_ne!(available(result), Some(false), "the rig {} sees no loss", kind.name());
}

#[test]
fn accepted_mail_survives_loss_of_memory() {
    nothing_promised_is_lost(Kind::Clone, 2);
}

#[test]
fn accepted_mail_survives_loss_of_the_disk_cache() {
    nothing_promised_is_lost(Kind::Cache, 1);
}

#[test]
fn accepted_mail_survives_a_file_system_shutdown() {
    nothing_promised_is_lost(Kind::Shutdown, 2);
}

#[test]
fn each_rig_detects_a_writer_that_flushes_nothing() {
    Kind::ALL.into_iter().for_each(a_careless_writer_is_found_out);
}

#[test]
fn accepted_mail_survives_sigkill() {
    let directory = Directory::new();
    let settings = kill9::Settings {
        rounds: 3,
        seed: 1,
        program: Program::find(Some(program().to_owned())).unwrap(),
        directory: directory.path().to_owned(),
    };
    let account = kill9::run(&settings, &AtomicBool::new(false), &mut |text| eprintln!("{text}")).unwrap();
    assert!(account.is_right(), "{account}");
}

/// The environment variable that makes a run of [`the_next_run_cleans_up_after_a_killed_one`] the one that is killed.
const VICTIM: &str = "MAILRACE_TEST_RIG_TO_KILL";

/// A process that has set a rig up is killed. The next rig there removes what it has left: mounts, loop devices, a daemon,
/// the directory.
#[test]
fn the_next_run_cleans_up_after_a_killed_one() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        let directory = Path::new(&directory);
        let rigs: Vec<_> = Kind::ALL.into_iter().map(|kind| kind.set_up(Some(directory))).collect();
        std::fs::write(directory.join("rigs"), rigs.iter().filter(|rig| rig.is_ok()).count().to_string())
            .unwrap();
        // It is killed here.
        loop {
            std::thread::park();
        }
    }
    let Some(()) = available(require_root()) else { return };
    let directory = Directory::new();
    let path = directory.path();
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "the_next_run_cleans_up_after_a_killed_one"]).env(VICTIM, path);
    let mut victim = victim.stdout(Stdio::null()).spawn().unwrap();
    let rigs = path.join("rigs");
    while std::fs::read_to_string(&rigs).map_or(true, |count| count.is_empty()) {
        assert!(victim.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    if std::fs::read_to_string(&rigs).unwrap() == "0" {
        return skip_on_this_machine("no rig can be set up here");
    }
    assert!(!mounts(path).is_empty() && !loop_devices(path).is_empty(), "nothing is left to be removed");
    let next = Kind::Shutdown.set_up(Some(path)).unwrap();
    assert_eq!((mounts(path).len(), loop_devices(path).len()), (1, 1), "{:?}", mounts(path));
    drop(next);
    assert_eq!((mounts(path).len(), loop_devices(path).len()), (0, 0), "{:?}", mounts(path));
    let left: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["rigs"]);
}
