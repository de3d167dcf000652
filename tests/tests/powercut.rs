//! Power cuts on real file systems and SIGKILL: a few of each. `mailrace-dev powercut` and `kill9` do as many as wanted.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::sync::atomic::AtomicBool;

use mailrace_dev::proof::engine::Program;
use mailrace_dev::proof::powercut::{Kind, Settings};
use mailrace_dev::proof::{kill9, powercut};
use mailrace_tests::{Directory, available, program};

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
fn nothing_promised_is_lost_with_the_memory_of_the_machine() {
    nothing_promised_is_lost(Kind::Clone, 2);
}

#[test]
fn nothing_promised_is_lost_with_the_cache_of_the_disk() {
    nothing_promised_is_lost(Kind::Cache, 1);
}

#[test]
fn nothing_promised_is_lost_with_the_file_system() {
    nothing_promised_is_lost(Kind::Shutdown, 2);
}

#[test]
fn each_rig_finds_out_who_makes_nothing_durable() {
    Kind::ALL.into_iter().for_each(a_careless_writer_is_found_out);
}

#[test]
fn nothing_promised_is_lost_with_the_process() {
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
