use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;

use super::*;

fn parse(arguments: &[&str]) -> Result<Options, String> {
    let arguments = arguments.iter().map(|argument| OsStr::from_bytes(argument.as_bytes()).to_owned());
    Options::parse(Mode::Submit, arguments).map_err(|fatal| format!("{} {}", fatal.status, fatal.text))
}

fn recipients(arguments: &[&str]) -> Vec<String> {
    let recipients = parse(arguments).unwrap().recipients;
    recipients.into_iter().map(|address| String::from_utf8(address).unwrap()).collect()
}

#[test]
fn options_end_at_the_first_other_argument() {
    assert_eq!(recipients(&["-i", "a@b", "-t", "--"]), ["a@b", "-t", "--"]);
    assert_eq!(recipients(&["--", "-a@b"]), ["-a@b"]);
    assert_eq!(recipients(&["-", "a@b"]), ["-", "a@b"]);
    assert_eq!(recipients(&["-t", ""]), [""]);
}

#[test]
fn values_follow_the_option_or_are_the_next_argument() {
    for arguments in [&["-tifx@y", "a"][..], &["-t", "-i", "-f", "x@y", "a"], &["-it", "-r", "x@y", "a"]] {
        let options = parse(arguments).unwrap();
        assert_eq!(options.sender.as_deref(), Some(&b"x@y"[..]), "{arguments:?}");
        assert!(options.extracts_recipients && !options.is_ended_by_dot, "{arguments:?}");
        assert_eq!(options.recipients, [b"a"], "{arguments:?}");
    }
    assert_eq!(parse(&["-f", "", "a"]).unwrap().sender, Some(vec![]));
    assert_eq!(parse(&["-fq", "-r", "s"]).unwrap().sender.as_deref(), Some(&b"s"[..]));
}

#[test]
fn parses_delivery_options() {
    let options =
        parse(&["-N", "SUCCESS,,delay", "-Rhdrs", "-V", "id x", "-B8BITMIME", "-G", "-FJoe", "a"]).unwrap();
    assert_eq!(options.notify, Notify::SUCCESS.with(Notify::DELAY));
    assert_eq!(options.ret, Some(Return::Headers));
    assert_eq!(options.envelope_id.as_deref(), Some(&b"id x"[..]));
    assert_eq!((options.body, options.is_gateway), (BodyType::EightBitMime, true));
    assert_eq!(options.full_name.as_deref(), Some(&b"Joe"[..]));
    assert_eq!(parse(&["-N", "never", "a"]).unwrap().notify, Notify::NEVER);
}

/// A message must not go out under other conditions than were asked for.
#[test]
fn refuses_unsupported_delivery_options() {
    for (option, bad) in [
        ("-N", ""),
        ("-N", ","),
        ("-N", "bad"),
        ("-N", "success,bad"),
        ("-N", "never,success"),
        ("-N", "delay never"),
        ("-R", "bad"),
        ("-R", ""),
        ("-V", ""),
        ("-V", "a\tb"),
        ("-V", "j\u{f6}rg"),
        ("-V", &"x".repeat(101)),
        ("-B", "8bit"),
        ("-B", ""),
    ] {
        let said = parse(&[option, bad, "a"]).unwrap_err();
        assert!(said.starts_with("64 ") && said.contains(option), "{option} {bad:?}: {said}");
    }
}

#[test]
fn ignores_options_of_other_systems() {
    let ignored = [
        "-Ac", "-Am", "-Ltag", "-U", "-c", "-m", "-x", "-em", "-h5", "-px", "-Oy", "-oem", "-om", "-o7",
        "-oMr", "-oq", "-v", "-vv", "-bm",
    ];
    let options = parse(&[&ignored[..], &["a@b"]].concat()).unwrap();
    assert_eq!(options, parse(&["a@b"]).unwrap());
}

#[test]
fn usage_errors_match_postfix() {
    for (arguments, wanted) in [
        (&["-n"][..], "-n option not supported"),
        (&["-B"], "usage: sendmail [options]"),
        (&["-Z"], "usage: sendmail [options]"),
        (&["--help"], "usage: sendmail [options]"),
        (&["-bz"], "unsupported: -bz"),
        (&["-Xq"], "unsupported: -Xq"),
        (&["-XVab"], "-V requires two characters from -=+"),
        (&["-XV+"], "-V requires two characters from -=+"),
        (&["-Vxy"], "-V requires two characters from -=+"),
        (&["-oA"], "-oA requires pathname"),
        (&["-qR"], "specify: -qRsitename"),
        (&["-qX"], "-qX is not implemented"),
    ] {
        assert_eq!(parse(arguments).unwrap_err(), format!("75 {wanted}"), "{arguments:?}");
    }
}

#[test]
fn distinguishes_modes() {
    for (arguments, wanted) in [
        (&["-bh"][..], Mode::Ignore),
        (&["-q5m", "a@b"], Mode::Ignore),
        (&["-q"], FLUSH),
        (&["-qRsite"], FLUSH),
        (&["-bp"], Mode::List),
        (&["-bs"], Mode::Session),
        (&["-bd", "-q"], FLUSH),
        (&["-I"], ALIASES),
        (&["-XV", "a@b"], VERP),
        (&["-XV+=", "a@b"], VERP),
        (&["-V", "xy", "a@b"], VERP),
        (&["-bv", "-bm", "a@b"], Mode::Submit),
    ] {
        assert_eq!(parse(arguments).unwrap().mode, wanted, "{arguments:?}");
    }
}

/// Whether an option had its effect.
type Effect = fn(&Options) -> bool;

/// The options that sendmail(1) of Postfix documents, in each spelling that getopt(3) reads.
#[test]
fn documented_options_have_an_effect_in_every_spelling() {
    let effects: [(char, &str, Effect); 12] = [
        ('B', "7BIT", |options| options.body == BodyType::SevenBit),
        ('B', "8BITMIME", |options| options.body == BodyType::EightBitMime),
        ('C', "/etc/x.toml", |options| options.config == Some(PathBuf::from("/etc/x.toml"))),
        ('F', "Joe Doe", |options| options.full_name.as_deref() == Some(b"Joe Doe")),
        ('N', "failure,delay", |options| options.notify == Notify::FAILURE.with(Notify::DELAY)),
        ('R', "full", |options| options.ret == Some(Return::Full)),
        ('R', "HDRS", |options| options.ret == Some(Return::Headers)),
        ('V', "id-1", |options| options.envelope_id.as_deref() == Some(b"id-1")),
        ('f', "-x@y", |options| options.sender.as_deref() == Some(b"-x@y")),
        ('r', "x@y", |options| options.sender.as_deref() == Some(b"x@y")),
        ('o', "i", |options| !options.is_ended_by_dot),
        ('b', "s", |options| options.mode == Mode::Session),
    ];
    for (letter, value, has_effect) in effects {
        for arguments in [
            vec![format!("-{letter}{value}")],
            vec![format!("-{letter}"), value.to_owned()],
            vec![format!("-v{letter}{value}")],
            vec![format!("-vt{letter}"), value.to_owned()],
        ] {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["a@b"]).collect();
            let options = parse(&arguments).unwrap();
            assert!(has_effect(&options), "{arguments:?}: {options:?}");
            assert_eq!(options.recipients, [b"a@b"], "{arguments:?}");
        }
        assert!(!has_effect(&parse(&["a@b"]).unwrap()), "{letter} {value}");
    }
}

#[test]
fn the_last_of_repeated_options_counts() {
    let options =
        parse(&["-fa", "-rb", "-Rfull", "-Rhdrs", "-B8BITMIME", "-B7BIT", "-Vone1", "-Vtwo1", "x"]).unwrap();
    assert_eq!(options.sender.as_deref(), Some(&b"b"[..]));
    assert_eq!((options.ret, options.body), (Some(Return::Headers), BodyType::SevenBit));
    assert_eq!(options.envelope_id.as_deref(), Some(&b"two1"[..]));
    assert_eq!(parse(&["-Nnever", "-Nsuccess", "x"]).unwrap().notify, Notify::SUCCESS);
    for (arguments, mode) in [
        (&["-bp", "-bm"][..], Mode::Submit),
        (&["-bm", "-bp"], Mode::List),
        (&["-bs", "-bi"], ALIASES),
        (&["-I", "-bs"], Mode::Session),
        (&["-q1h", "-bp"], Mode::List),
    ] {
        assert_eq!(parse(arguments).unwrap().mode, mode, "{arguments:?}");
    }
}

/// The name of the program says what it does, unless an option does.
#[test]
fn an_option_replaces_the_mode_of_the_name() {
    let mode = |mode, option: &str| {
        let arguments = Some(option).filter(|option| !option.is_empty()).map(OsString::from);
        Options::parse(mode, arguments.into_iter()).unwrap().mode
    };
    assert_eq!(mode(Mode::List, ""), Mode::List);
    assert_eq!(mode(Mode::List, "-bm"), Mode::Submit);
    assert_eq!(mode(ALIASES, "-v"), ALIASES);
    assert_eq!(mode(ALIASES, "-bp"), Mode::List);
}

#[test]
fn an_envelope_id_of_two_characters_is_a_verp_option() {
    // As in Postfix, which had VERP under that letter before DSN did.
    assert_eq!(parse(&["-V+=", "a"]).unwrap().mode, VERP);
    assert_eq!(parse(&["-V", "ab", "a"]).unwrap().envelope_id, None);
    for id in ["x", "xyz", &"x".repeat(100)] {
        let options = parse(&["-V", id, "a"]).unwrap();
        assert_eq!(
            (options.mode, options.envelope_id.as_deref()),
            (Mode::Submit, Some(id.as_bytes())),
            "{id}"
        );
    }
}

#[test]
fn an_option_without_its_value_is_a_usage_error() {
    for letter in WITH_VALUE {
        let option = format!("-{}", char::from(*letter));
        if option == "-q" {
            continue;
        }
        assert_eq!(parse(&[&option]).unwrap_err(), "75 usage: sendmail [options]", "{option}");
        assert_eq!(
            parse(&[&format!("-i{}", &option[1..])]).unwrap_err(),
            "75 usage: sendmail [options]",
            "{option}"
        );
    }
}

#[test]
fn flushing_options_say_what_is_missing() {
    for (arguments, wanted) in [
        (&["-qRexample.com"][..], Ok(FLUSH)),
        (&["-qI4bX"], Ok(FLUSH)),
        (&["-q0"], Ok(Mode::Ignore)),
        (&["-q30m"], Ok(Mode::Ignore)),
        (&["-qI"], Err("75 specify: -qIqueueid")),
        (&["-qSexample.com"], Err("75 -qS is not implemented")),
        (&["-vq", ""], Err("75 -q is not implemented")),
    ] {
        let mode = parse(arguments).map(|options| options.mode);
        assert_eq!(mode, wanted.map_err(str::to_owned), "{arguments:?}");
    }
}

proptest! {
    #[test]
    fn arguments_after_two_hyphens_are_recipients(addresses in proptest::collection::vec(".{0,8}", 0..5)) {
        let arguments: Vec<&str> = ["-i", "--"].into_iter().chain(addresses.iter().map(String::as_str)).collect();
        prop_assert_eq!(recipients(&arguments), addresses);
    }

    #[test]
    fn any_arguments_are_read_or_refused(arguments in proptest::collection::vec("-?[A-Za-z+=, -]{0,4}", 0..6)) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Err(said) = parse(&arguments) {
            prop_assert!(said.starts_with("64 ") || said.starts_with("75 "), "{}", said);
        }
    }
}
