use proptest::prelude::*;

use super::*;

#[test]
fn a_scraper_gets_its_preferred_format() {
    use Format::{OpenMetrics, Prometheus};
    // Prometheus 2.49 and 3.0, vmagent, browsers, and what is odd.
    let cases: [(&[&str], Format); 19] = [
        (&[], Prometheus),
        (&[""], Prometheus),
        (&["*/*"], Prometheus),
        (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Prometheus),
        (&["text/plain"], Prometheus),
        (&["application/json"], Prometheus),
        (&["application/openmetrics-text"], OpenMetrics),
        (&["application/openmetrics-text; version=1.0.0; charset=utf-8"], OpenMetrics),
        (&["Application/OpenMetrics-Text;Version=\"1.0.0\""], OpenMetrics),
        (&["application/openmetrics-text;version=0.0.1"], Prometheus),
        (&["application/openmetrics-text;version=2.0.0,text/plain;q=0.1"], Prometheus),
        (
            &[
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ],
            OpenMetrics,
        ),
        (
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1",
            ],
            OpenMetrics,
        ),
        (&["text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.8"], Prometheus),
        (&["text/plain;q=0.5", "application/openmetrics-text;q=0.8"], OpenMetrics),
        (&["application/openmetrics-text, */*"], OpenMetrics),
        (&["application/openmetrics-text;q=0, */*"], Prometheus),
        (&["application/openmetrics-text;q=2, text/plain;q=0.1"], Prometheus),
        (&["application/*, text/*;q=0.9"], OpenMetrics),
    ];
    for (fields, wanted) in cases {
        assert_eq!(Format::preferred(fields), wanted, "{fields:?}");
    }
}

#[test]
fn parses_quality_values_in_thousandths() {
    for (text, wanted) in [
        ("0", Some(0)),
        ("1", Some(1000)),
        ("0.5", Some(500)),
        ("0.05", Some(50)),
        ("0.005", Some(5)),
        ("1.000", Some(1000)),
        ("1.", Some(1000)),
        ("1.001", None),
        ("0.0001", None),
        ("-1", None),
        ("x", None),
        ("0.x", None),
        ("99999", None),
    ] {
        assert_eq!(thousandths(text), wanted, "{text}");
    }
}

#[test]
fn metadata_lines_have_the_names_of_their_samples() {
    let open = "# HELP a A \\\"b\\\" \\\\ c.\n# TYPE a counter\na_total 1\n# TYPE build info\nbuild_info{version=\"1\"} 1\n\
                # HELP s Of a.\n# TYPE s gauge\n# UNIT s seconds\ns 2.5\n# TYPE u unknown\nu 1\n# EOF\n";
    let wanted = "# HELP a_total A \"b\" \\\\ c.\n# TYPE a_total counter\na_total 1\n# TYPE build_info gauge\n\
                  build_info{version=\"1\"} 1\n# HELP s Of a.\n# TYPE s gauge\ns 2.5\n# TYPE u untyped\nu 1\n";
    assert_eq!(to_prometheus(open), wanted);
}

#[test]
fn a_quality_has_no_sign() {
    for text in ["+1", "+0.5", "0.+5", " 1", "", ".", ".5"] {
        assert_eq!(thousandths(text), None, "{text:?}");
    }
}

#[test]
fn a_conversion_keeps_the_lines_of_samples() {
    let mut registry = Registry::default();
    let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
    counter.inc_by(7);
    registry.register("mail_x", "Mail with a \"quote\"", counter);
    let gauge = prometheus_client::metrics::gauge::Gauge::<i64>::default();
    gauge.set(-3);
    registry.register("depth", "Depth", gauge);
    let (open, plain) = (Format::OpenMetrics.text(&registry), Format::Prometheus.text(&registry));
    let samples = |text: &str| {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&open), ["mail_x_total 7", "depth -3"]);
    assert_eq!(samples(&plain), samples(&open));
    assert!(open.ends_with("# EOF\n") && !plain.contains("EOF"));
    assert!(plain.contains("# TYPE mail_x_total counter\n"), "{plain}");
    assert!(plain.contains("# HELP mail_x_total Mail with a \"quote\".\n"), "{plain}");
    assert!(plain.lines().all(|line| !line.is_empty()) && plain.ends_with('\n'));
}

proptest! {
    #[test]
    fn qualities_are_thousandths(number in 0u16..=1000) {
        let text = format!("{}.{:03}", number / 1000, number % 1000);
        prop_assert_eq!(thousandths(&text), Some(number));
        prop_assert_eq!(thousandths(text.trim_end_matches('0')), Some(number));
    }

    #[test]
    fn any_preference_has_a_format(fields in proptest::collection::vec("(text/plain|application/openmetrics-text|[*/;,=q. ]|version|1.0.0){0,9}", 0..3)) {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let _ = Format::preferred(&fields);
    }
}
