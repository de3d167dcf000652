//! Whatever goes through the cleanup passes comes out as mail.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use mailrace_tests::passes::{Given, check, check_twice};
use proptest::prelude::*;

/// Pieces of which header sections are made, in whatever order.
const PIECES: &str = "(From|To|Cc|Reply-To|Sender|Resent-To|Bcc|Subject|A|B|C|D|E|F|G|H|I|Received|Message-Id|Date|\
Content-Type|Content-Transfer-Encoding|MIME-Version|: |:| |\t|\r\n|\r\n |\r\n\r\n|a@example\\.com|b|@c\\.example|\
x@loop|<|>|,|;|group:|\"|\\\\|\\(|\\)|\\[|\\]|%|!|\\.|@|=\\?utf-8\\?q\\?x\\?=|multipart/mixed|message/rfc822|\
; boundary=q|--q|--q--|base64|8bit|From |>From |\0|ä|\u{85}|xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx)";

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(PIECES, 0..60).prop_map(|pieces| {
        let mut content = pieces.concat().into_bytes();
        if !content.ends_with(b"\r\n") && !content.is_empty() {
            content.extend_from_slice(b"\r\n");
        }
        content
    })
}

fn address() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec("(a|b|@|\"|\\.|\\+|%|!|@example\\.com|@c\\.example|x@loop| |ä|\\\\)", 0..6)
        .prop_map(|pieces| pieces.concat().into_bytes())
}

/// A list of mailboxes and groups as RFC 5322 has it, with comments and folds.
fn list() -> impl Strategy<Value = String> {
    let local = "([a-z]{1,5}|\"([a-z @,.]|\\\\\\\\|\\\\\"){0,3}\"|a\\.b|x\\+y|r%q|s!t)";
    let domain = "(|@example\\.com|@host|@[a-z]{1,3}\\.example\\.org|@\\[192\\.0\\.2\\.1\\])";
    let address = format!("{local}{domain}");
    let mailbox = format!(
        "({address}|{address} \\(a \\(comment\\)\\)|A Name <{address}>|\"Q, \\(N\" <{address}>|=\\?utf-8\\?q\\?x\\?= <{address}>)"
    );
    let list = format!(
        "({mailbox}((, |,|,\r\n |,\r\n\t){mailbox}){{0,4}}|group:( {mailbox}(, {mailbox}){{0,2}})?;)"
    );
    prop::string::string_regex(&list).unwrap()
}

fn mail() -> impl Strategy<Value = Vec<u8>> {
    let name = "(From|To|Cc|Bcc|Reply-To|Sender|Resent-From|Resent-To|Return-Path|Errors-To)";
    let field = prop_oneof![
        (name, list()).prop_map(|(name, list)| format!("{name}: {list}\r\n")),
        "(Subject|Date|X-[A-Z]{1,3}|Message-Id|Received): [ -~]{0,90}(\r\n\t[ -~]{0,20}[!-~])?\r\n",
    ];
    let body = "(\r\n|([ -~ä\t]{0,40}\r\n){0,5})";
    (prop::collection::vec(field, 0..8), body)
        .prop_map(|(fields, body)| format!("{}\r\n{body}", fields.concat()).into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn cleanup_produces_valid_messages(
        is_local: bool,
        is_narrow: bool,
        sender in address(),
        recipients in prop::collection::vec(address(), 0..4),
        content in content(),
        cuts in prop::collection::vec(any::<usize>(), 0..3),
    ) {
        check(&Given { is_local, is_narrow, sender, recipients, content, cuts });
    }

    #[test]
    fn cleanup_is_idempotent(is_local: bool, content in mail()) {
        let sender = b"sender@example.com".to_vec();
        check_twice(&Given { is_local, sender, content, ..Given::default() });
    }
}
