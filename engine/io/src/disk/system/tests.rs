use super::*;

#[test]
fn zeros_replace_what_was_there_up_to_their_end() {
    let disk = disk("zeros");
    let (size, zeroed) = (5 << 20, (4 << 20) + 4096);
    let file = disk.create("segment", size, FileKind::Buffered).unwrap();
    let before = vec![7; 5 << 20];
    for write_zeroes in [OsDisk::write_zeroes, transfer_zeros::<OsDisk>] {
        disk.write_at(&file, &before, 0).unwrap();
        write_zeroes(&disk, &file, zeroed).unwrap();
        let mut read = before.clone();
        assert_eq!(disk.read_at(&file, &mut read, 0).unwrap(), before.len());
        let (zeros, rest) = read.split_at(usize::try_from(zeroed).unwrap());
        assert!(zeros.iter().all(|byte| *byte == 0) && rest.iter().all(|byte| *byte == 7));
        assert_eq!(disk.size(&file).unwrap(), size);
    }
    std::fs::remove_dir_all(disk.root()).unwrap();
}

fn disk(name: &str) -> OsDisk {
    let root = std::env::temp_dir().join(format!("mailrace-disk-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    OsDisk::new(&root).unwrap()
}

#[test]
fn a_directory_that_was_removed_or_replaced_is_not_in_place() {
    let disk = disk("place");
    let root = disk.root().to_owned();
    assert!(disk.list("sub").unwrap().is_empty() && !root.join("sub").exists(), "looking makes nothing");
    disk.make_directory("sub").unwrap();
    assert!(disk.is_in_place("sub"));
    std::fs::rename(root.join("sub"), root.join("other")).unwrap();
    assert!(!disk.is_in_place("sub"), "the subdirectory is gone");
    std::fs::create_dir(root.join("sub")).unwrap();
    assert!(!disk.is_in_place("sub"), "another subdirectory is in its place");
    std::fs::remove_dir(root.join("sub")).unwrap();
    std::fs::rename(root.join("other"), root.join("sub")).unwrap();
    assert!(disk.is_in_place("sub"), "the subdirectory is back");
    let aside = root.with_extension("aside");
    std::fs::rename(&root, &aside).unwrap();
    assert!(!disk.is_in_place(""), "all is gone");
    std::fs::create_dir(&root).unwrap();
    assert!(!disk.is_in_place(""), "another is in its place");
    std::fs::remove_dir(&root).unwrap();
    std::fs::rename(&aside, &root).unwrap();
    assert!(disk.is_in_place(""), "it is back");
    drop(disk.lock("lock").unwrap());
    std::fs::remove_file(root.join("lock")).unwrap();
    assert!(!disk.is_in_place("lock"), "the lock is gone");
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_file_is_not_renamed_over_another() {
    let disk = disk("rename");
    for name in ["a", "b"] {
        drop(disk.create(name, 4096, FileKind::Buffered).unwrap());
    }
    assert_eq!(disk.rename_new("a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    disk.rename_new("a", "c").unwrap();
    let mut names = disk.list("").unwrap();
    names.sort();
    assert_eq!(names, ["b", "c"]);
    std::fs::remove_dir_all(disk.root()).unwrap();
}

#[test]
fn what_is_no_regular_file_is_not_opened_and_not_waited_for() {
    let disk = disk("odd");
    let root = disk.root().to_owned();
    std::fs::create_dir(root.join("directory")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", root.join("link")).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, 0o600.into(), 0).unwrap();
    for name in ["directory", "link", "fifo"] {
        for kind in [FileKind::Read, FileKind::Buffered, FileKind::Direct] {
            assert!(disk.open(name, kind).is_err(), "{name}");
        }
    }
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_lock_waits_for_readers_and_for_no_engine() {
    let disk = disk("lock");
    assert!(!disk.is_locked("lock").unwrap(), "without a lock file");
    assert!(disk.list("").unwrap().is_empty(), "looking makes nothing");
    let lock = disk.lock("lock").unwrap();
    assert!(disk.is_locked("lock").unwrap());
    assert_eq!(disk.lock("lock").unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    assert!(!disk.is_locked("lock").unwrap());
    let reader = File::open(disk.root().join("lock")).unwrap();
    rustix::fs::flock(&reader, FlockOperation::LockShared).unwrap();
    let engine = {
        let disk = disk.clone();
        std::thread::spawn(move || disk.lock("lock").map(drop))
    };
    drop(reader);
    engine.join().unwrap().unwrap();
    std::fs::remove_dir_all(disk.root()).unwrap();
}

/// As root: another owner can only be given by it.
#[test]
fn what_is_made_belongs_to_the_owner_of_the_directory() {
    let root = std::env::temp_dir().join(format!("mailrace-disk-owner-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir(&root).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&root, Some(6000), Some(6001)).unwrap();
    } else {
        eprintln!("skipped: only root can make files for others");
    }
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
    let disk = OsDisk::new(&root).unwrap();
    disk.make_directory("sub").unwrap();
    drop(disk.create("sub/file", 4096, FileKind::Direct).unwrap());
    drop(disk.lock("lock").unwrap());
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    disk.settle_socket("socket").unwrap();
    assert!(disk.settle_socket("lock").is_err(), "no socket");
    disk.owner.settle(&File::open(root.join("lock")).unwrap(), false).unwrap();
    let expected = root.metadata().unwrap();
    for (path, mode) in [("sub", 0o750), ("sub/file", 0o640), ("lock", 0o640), ("socket", 0o600)] {
        let found = root.join(path).metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (expected.uid(), expected.gid()), "{path}");
        assert_eq!(found.mode() & 0o7777, mode, "{path}");
    }
    std::fs::remove_dir_all(&root).unwrap();
}
