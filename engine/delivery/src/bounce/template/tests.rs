use proptest::prelude::*;

use super::*;

fn lookup(name: &str) -> Option<Vec<u8>> {
    let value = match name {
        "myhostname" => "mx.example.com",
        "mydomain" => "bücher.example",
        "delay_warning_time" => "5401s",
        "maximal_queue_lifetime" => "5",
        "empty" => "",
        "hostile" => "a\r\nb",
        _ => return None,
    };
    Some(value.as_bytes().to_vec())
}

fn read(content: &str) -> Result<Templates, TemplateError> {
    let mut templates = Templates::built_in(&lookup)?;
    templates.read("bounce.cf", content.as_bytes(), &lookup)?;
    Ok(templates)
}

/// The text of a failure template with this line of text.
fn expanded(line: &str) -> String {
    let templates = read(&format!("failure_template = <<EOF\nCharset: utf-8\n\n{line}\nEOF\n")).unwrap();
    String::from_utf8(templates.failure.text.to_vec()).unwrap()
}

#[test]
fn built_in_templates_have_all_fields() {
    let templates = Templates::built_in(&lookup).unwrap();
    for kind in [Kind::Failure, Kind::Delay, Kind::Success, Kind::Verify] {
        let template = templates.of(kind);
        assert!(template.is_us_ascii());
        assert_eq!(&*template.from, b"Mail Delivery System <MAILER-DAEMON>");
        assert!(!template.subject.is_empty() && template.postmaster_subject.is_empty() != kind.is_trouble());
        let text = str::from_utf8(&template.text).unwrap();
        assert!(text.contains("of mx.example.com.\r\n") && !text.contains('$'), "{text}");
        assert!(text.lines().all(|line| line.len() < 80), "{text}");
    }
    let delay = str::from_utf8(&templates.delay.text).unwrap();
    assert!(delay.contains(" 1 hour(s) ") && delay.contains(" 5 day(s) "), "{delay}");
    let error = Templates::built_in(&|_| None).unwrap_err().to_string();
    assert!(error.starts_with("built-in templates:7: $myhostname names no parameter; "), "{error}");
}

#[test]
fn a_file_replaces_what_it_has() {
    let built_in = Templates::built_in(&lookup).unwrap();
    let file = "  # a comment\n\n\t\nfailure_template = <<END_1\nSUBJECT:   Alas  \nfrom: MAILER-DAEMON (Robot)\n\n\
                I am $myhostname.\n  # no comment\n\nEND_1\nverify_template=<<  E\nonly: text here\n\nE\n";
    let error = read(file).unwrap_err().to_string();
    assert!(error.starts_with("bounce.cf:13: only is not"), "a line with a colon is a field: {error}");
    let templates = read(&file.replace("only:", "Only,")).unwrap();
    let failure = Template {
        subject: b"Alas".as_slice().into(),
        from: b"MAILER-DAEMON (Robot)".as_slice().into(),
        text: b"I am mx.example.com.\r\n  # no comment\r\n\r\n".as_slice().into(),
        ..built_in.failure.clone()
    };
    assert_eq!(templates.failure, failure);
    assert_eq!(
        &*templates.verify.text, b"Only, text here\r\n\r\n",
        "fields may be missing, and the empty line"
    );
    assert_eq!((&templates.delay, &templates.success), (&built_in.delay, &built_in.success));
    assert_eq!(read(&file.replace("only:", "Only,").replace('\n', "\r\n")).unwrap(), templates);
    assert_eq!(read("").unwrap(), built_in);
}

#[test]
fn names_are_replaced_by_values() {
    for (line, expected) in [
        ("$myhostname ${mydomain} $(myhostname)x", "mx.example.com bücher.example mx.example.comx"),
        ("$$5 $$myhostname $empty.", "$5 $myhostname ."),
        ("$delay_warning_time $delay_warning_time_minutes", "5401s 90"),
        ("$delay_warning_time_seconds ${delay_warning_time_hours} $delay_warning_time_days", "5401 1 0"),
        ("$maximal_queue_lifetime_days $maximal_queue_lifetime_hours", "5 120"),
        ("$maximal_queue_lifetime_weeks", "0"),
        ("$hostile $myhostname-x", "a??b mx.example.com-x"),
        ("\tno dollar {} \\", "\tno dollar {} \\"),
    ] {
        assert_eq!(expanded(line), format!("{expected}\r\n"), "{line}");
    }
}

#[test]
fn rejects_invalid_files() {
    let section = |lines: &str| format!("# a\nfailure_template = <<EOF\n{lines}EOF\n");
    for (content, expected) in [
        ("junk\n".to_owned(), "1: no template begins here; "),
        (
            "foo_template = <<EOF\n\nx\nEOF\n".to_owned(),
            "1: foo_template is not a template; expected failure_",
        ),
        ("\nfailure_template = text\n".to_owned(), "2: failure_template has no end marker; write "),
        ("failure_template = <<\n\nx\n".to_owned(), "1: failure_template has no end marker; "),
        ("failure_template = <<'EOF'\nx\nEOF\n".to_owned(), "1: failure_template has no end marker; "),
        (
            "failure_template = <<EOF\n\nx\nEOF x\n".to_owned(),
            "1: the template has no end; add a line with EOF",
        ),
        (section("\nx\n").repeat(2), "7: failure_template is here for the second time; "),
        (section(""), "2: failure_template has no text; "),
        (section("Subject: x\n\n"), "2: failure_template has no text; "),
        (section("Subject: x\nX-Foo: y\n\nx\n"), "4: X-Foo is not a field of a template; "),
        (section("Subject: x\nsubject: y\n\nx\n"), "4: Subject is here for the second time; "),
        (section("Subject:\n\nx\n"), "3: Subject has no value; "),
        (section("Subject: é\n\nx\n"), "3: Subject is not printable ASCII; "),
        (section("Subject: x\n y\n\nx\n"), "4: the field continues on this line; "),
        (section("Subject: x\n\né\n"), "5: the text is not ASCII; add a field such as Charset: utf-8"),
        (section("\na\u{7}\n"), "4: the text has a control character; "),
        (section("\ncost 5$\n"), "4: a $ without a name; "),
        (section("\n$ x\n"), "4: a $ without a name; "),
        (section("\n${}\n"), "4: a $ without a name; "),
        (section("\n${myhostname\n"), "4: the name after $ has no end; "),
        (section("\n$(myhostname}\n"), "4: the name after $ has no end; "),
        (section("\n${myhostname?yes}\n"), "4: conditional expansions are not supported; "),
        (section("\n\n$nosuch.\n"), "5: $nosuch names no parameter; "),
        (section("\n$delay_warning_time_years\n"), "4: $delay_warning_time_years has no unit; "),
        (section("\n$maximal_queue_lifetime_\n"), "4: $maximal_queue_lifetime_ has no unit; "),
        (
            "success_template = <<EOF\nPostmaster-Subject: x\n\nx\nEOF\n".to_owned(),
            "2: Postmaster-Subject is not used",
        ),
    ] {
        let error = read(&content).unwrap_err().to_string();
        assert!(error.starts_with(&format!("bounce.cf:{expected}")), "{error} for {content:?}");
    }
    let soon = |name: &str| if name == "delay_warning_time" { Some(b"soon".to_vec()) } else { lookup(name) };
    let error = Templates::built_in(&soon).unwrap_err().to_string();
    let expected =
        "built-in templates:27: delay_warning_time is soon, which is not a time; expected one such as 4h";
    assert_eq!(error, expected);
}

proptest! {
    #[test]
    fn parses_any_input_without_a_panic(
        lines in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec!["failure_template = <<EOF", "EOF", "", "Subject: a", "$myhostname", "${", "$"])
                    .prop_map(|line| line.as_bytes().to_vec()),
                prop::collection::vec(any::<u8>(), 0..20),
            ],
            0..10,
        ),
    ) {
        let mut templates = Templates::built_in(&lookup).unwrap();
        let content = lines.join(&b'\n');
        if let Err(error) = templates.read("bounce.cf", &content, &lookup) {
            prop_assert!((1..=content.split(|byte| *byte == b'\n').count()).contains(&error.line), "{}", error);
        }
        let text = &templates.failure.text;
        let bare = text.iter().enumerate().filter(|(at, byte)| **byte == b'\n' && text.get(at.wrapping_sub(1)) != Some(&b'\r'));
        prop_assert_eq!(bare.count(), 0);
        prop_assert!(text.ends_with(b"\r\n"));
    }
}
