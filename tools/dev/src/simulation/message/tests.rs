use mailrace_io::sim::Random;

use super::*;
use crate::simulation::plan::Manner;

#[test]
fn an_unstuffed_dot_is_removed_or_ends_the_message() {
    let mut message = Message::plain(7, 0, &mut Random::new(1, "message"));
    message.content = b"..a\r\n.b\r\n.\r\nrest\r\n".to_vec();
    assert_eq!(message.stuffed(), b"...a\r\n..b\r\n..\r\nrest\r\n");
    assert_eq!(message.leave_unstuffed(), (b"..a\r\n.b\r\n.\r\nrest\r\n.\r\n".to_vec(), 12));
    assert_eq!(message.content, b".a\r\nb\r\n");
}

#[test]
fn a_message_contains_its_number() {
    let message = Message::plain(4711, 3000, &mut Random::new(1, "message"));
    assert_eq!(Message::number_of(&message.content), Some(4711));
    assert!(
        message.content.len() >= 3000 && message.content[message.header_size - 4..].starts_with(b"\r\n\r\n")
    );
}

#[test]
fn long_fields_are_cut() {
    assert_eq!(cut(b"A: 456789\r\n\tbc\r\n", 100), b"A: 456789\r\n\tbc\r\n");
    assert_eq!(cut(b"A: 456789\r\n\tbc\r\n", 9), b"A: 456789\r\n");
    assert_eq!(cut(b"A: 456789\r\n\tbc\r\n", 12), b"A: 456789\r\n\tb\r\n");
    assert_eq!(cut(b"A: 456789\r\n", 4), b"A: 4\r\n");
}

#[test]
fn a_size_at_the_limit_is_exact() {
    let manner = Manner { message_size_limit: 30_000, ..Manner::default() };
    let mut random = Random::new(3, "message");
    let sizes: Vec<usize> = (0..400)
        .map(|number| Message::new(number, 500, &manner, (true, false), &mut random).content.len())
        .collect();
    assert!(sizes.contains(&30_000) && sizes.contains(&30_001));
}
