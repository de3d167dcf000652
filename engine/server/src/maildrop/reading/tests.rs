use std::path::PathBuf;

use super::*;
use crate::maildrop::tests::queue;

/// The parts of the content of a drop file with `content`.
fn parts(name: &str, content: &[u8]) -> Vec<Vec<u8>> {
    let (directory, maildrop) = queue(name);
    let mut file = maildrop.create().unwrap();
    file.write(content).unwrap();
    let recipients = vec![mailrace_core::Recipient { address: b"a".to_vec(), ..Default::default() }];
    file.finish(&Submission { recipients, ..Submission::default() }, || {}).unwrap();
    let path: Vec<PathBuf> =
        std::fs::read_dir(maildrop.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let file = File::open(&path[0]).unwrap();
    let of_file = file.metadata().unwrap();
    let Ok((header, _)) = read_submission(&file, &of_file, 1000) else { panic!("an undamaged file") };
    assert!(matches!(read_submission(&file, &of_file, 5), Err(ReadError::Unusable(_))));
    let mut content = Content::new(file, header);
    let mut parts = Vec::new();
    loop {
        let Ok((part, is_last)) = content.next() else { panic!("an undamaged file") };
        parts.push(part);
        if is_last {
            break;
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
    parts
}

#[test]
fn content_has_only_crlf_line_ends() {
    for (content, wanted) in
        [("a\nb\n", "a\r\nb\r\n"), ("a\r\n.\r\n\n", "a \r\n. \r\n\r\n"), ("end", "end\r\n"), ("", "")]
    {
        assert_eq!(parts("ends", content.as_bytes()), [wanted.as_bytes()], "{content:?}");
    }
    // A part ends with a line, one in the midst of one.
    let content = [vec![b'x'; PART_SIZE - 1], b"\n".to_vec(), vec![b'y'; PART_SIZE + 5]].concat();
    let parts = parts("parts", &content);
    assert_eq!(parts.len(), 3);
    assert!(parts[0].ends_with(b"x\r\n") && parts[1].ends_with(b"y") && parts[2] == b"yyyyy\r\n");
}

/// The owner of a file gives it any time. Some file systems keep what others cut.
#[test]
fn replaces_an_impossible_time_with_the_current_one() {
    let (directory, _) = queue("times");
    let path = directory.join("file");
    for seconds in [i64::MAX, i64::MIN, -1, 0, 1 << 33, 1 << 62] {
        let file = File::create(&path).unwrap();
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        if rustix::fs::futimens(&file, &times).is_ok() {
            let arrival = arrival(&file.metadata().unwrap());
            assert!(arrival.unix_seconds() <= now().unix_seconds(), "{seconds}: {arrival:?}");
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}

/// Opens the file `name` in `directory` as the pickup does; says why not.
fn opened(directory: &std::path::Path, name: &str) -> Result<Header, String> {
    let held = File::open(directory).unwrap();
    let device = held.metadata().unwrap().dev();
    let read = open(&held, name, device).and_then(|(file, of_file)| read_submission(&file, &of_file, 1000));
    match read {
        Ok((header, _)) => Ok(header),
        Err(ReadError::Unusable(reason)) => Err(reason.to_owned()),
        Err(ReadError::Submission(error)) => Err(error.to_string()),
        Err(other) => Err(format!("{other:?}")),
    }
}

#[test]
fn what_is_no_drop_file_is_not_read() {
    use rustix::fs::{CWD, FileType, mknodat};

    let (directory, maildrop) = queue("strange");
    let mut file = maildrop.create().unwrap();
    file.write(b"x\n").unwrap();
    let recipients = vec![mailrace_core::Recipient { address: b"a".to_vec(), ..Default::default() }];
    file.finish(&Submission { recipients, ..Submission::default() }, || {}).unwrap();
    let path = std::fs::read_dir(maildrop.path()).unwrap().next().unwrap().unwrap().path();
    let name = path.file_name().unwrap().to_str().unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert!(opened(maildrop.path(), name).is_ok());
    let place = |name: &str| directory.join(name);
    std::os::unix::fs::symlink(&path, place("link")).unwrap();
    std::fs::create_dir(place("directory")).unwrap();
    mknodat(CWD, place("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    std::fs::write(place("empty"), "").unwrap();
    std::fs::write(place("text"), "Subject: no drop file\n".repeat(10)).unwrap();
    std::fs::write(place("short"), &whole[..HEADER_SIZE - 1]).unwrap();
    std::fs::write(place("cut"), &whole[..whole.len() - 1]).unwrap();
    std::fs::write(place("longer"), [&whole[..], b"x"].concat()).unwrap();
    for (name, wanted) in [
        ("none", "Gone"),
        ("empty", "Gone"),
        ("link", "Irregular"),
        ("fifo", "Irregular"),
        ("directory", "it is a directory"),
        ("text", "it is not a drop file"),
        ("short", "it is not a drop file"),
        ("cut", "it is damaged"),
        ("longer", "it is damaged"),
    ] {
        assert_eq!(opened(&directory, name), Err(wanted.to_owned()), "{name}");
    }
    std::fs::hard_link(&path, place("second")).unwrap();
    assert_eq!(opened(&directory, "second"), Err("it has another name too".to_owned()));
    std::fs::remove_dir_all(directory).unwrap();
}

/// Damage of content is found at its end, and of all else at once.
#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let (directory, maildrop) = queue("changed");
    let mut file = maildrop.create().unwrap();
    file.write(b"content\n").unwrap();
    let recipients = vec![mailrace_core::Recipient { address: b"a".to_vec(), ..Default::default() }];
    file.finish(&Submission { recipients, ..Submission::default() }, || {}).unwrap();
    let path = std::fs::read_dir(maildrop.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(directory.join("changed"), &changed).unwrap();
        let is_content = (HEADER_SIZE..HEADER_SIZE + 8).contains(&at);
        let read = opened(&directory, "changed");
        assert_eq!(read.is_ok(), is_content, "byte {at}: {read:?}");
        if let Ok(header) = read {
            let mut content = Content::new(File::open(directory.join("changed")).unwrap(), header);
            assert!(
                matches!(content.next(), Err(ReadError::Submission(SubmissionError::Damaged))),
                "byte {at}"
            );
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}
