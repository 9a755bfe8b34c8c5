//! What a table of parameters promises about itself.

use fabric_emu::timing::{Evidence, Rate, Share, Table, TableError};

#[test]
fn every_value_says_its_source_and_how_well_it_is_known() {
    let table = Table::embedded().unwrap();
    assert!(table.values().count() > 150);
    for (class, key, value) in table.values() {
        assert!(value.source.len() > 5, "[{class}] {key}");
        let is_recalled = [
            "recalled",
            "guess",
            "inferred",
            "scaled",
            "not published",
            "chosen",
        ]
        .iter()
        .any(|word| value.source.contains(word));
        assert!(
            !is_recalled || value.evidence == Evidence::Assumed,
            "[{class}] {key}"
        );
    }
}

#[test]
fn a_printed_table_is_the_same_table() {
    let table = Table::embedded().unwrap();
    let table = table
        .overlay(
            "[ddr]\nlatency = { value = 90, unit = \"ns\", source = 'a \"b\" \\c', \
             evidence = \"measured\" }\n\
             [[ddr.curve]]\nread_share = 500\npoints = [[0, 0], [900, 80]]\nunit = \"ns\"\n\
             source = \"here\"\nevidence = \"measured\"\n\
             [[ddr.curve]]\nread_share = 0\npoints = [[0, 1]]\nunit = \"ps\"\n\
             source = \"here\"\nevidence = \"measured\"",
        )
        .unwrap();
    assert_eq!(Table::parse(&table.to_toml()).unwrap(), table);
    assert!(table.device("ddr").unwrap().curves.is_some());
}

#[test]
fn an_overlay_changes_what_it_says_and_nothing_else() {
    let table = Table::embedded().unwrap();
    let over = "[cxl-x8]\nbandwidth_read = { value = 9, unit = \"GB/s\", source = \"here\", \
                evidence = \"measured\" }";
    let other = table.overlay(over).unwrap();
    assert_eq!(
        other.device("cxl-x8").unwrap().read,
        Rate::new(9_000_000_000)
    );
    let changed = table
        .values()
        .zip(other.values())
        .filter(|(old, new)| old != new);
    assert_eq!(changed.count(), 1);
    assert_eq!(table.overlay("").unwrap(), table);
    let curve = |share: u64| {
        format!(
            "[[ddr.curve]]\nread_share = {share}\npoints = [[0, {share}]]\nunit = \"ps\"\n\
             source = \"here\"\nevidence = \"measured\""
        )
    };
    let twice = table
        .overlay(&curve(0))
        .unwrap()
        .overlay(&curve(1000))
        .unwrap();
    assert_eq!(
        twice,
        table.overlay(&curve(1000)).unwrap(),
        "all curves of a class together"
    );
}

/// Each text is refused with a message that has each of the words.
fn all_refused(table: &Table, cases: &[(String, &[&str])]) {
    for (text, words) in cases {
        let Err(error) = table.overlay(text) else {
            panic!("{text} is taken")
        };
        let error = error.to_string();
        for word in *words {
            assert!(error.contains(word), "{text}: {error} lacks {word}");
        }
    }
}

#[test]
fn a_class_or_key_that_is_none_is_refused_with_those_that_are() {
    all_refused(
        &Table::embedded().unwrap(),
        &[
            (
                "[dram]".to_owned(),
                &["[dram]", "remote-ddr", "link-32"][..],
            ),
            (
                "[ddr]\nlatancy = 1".to_owned(),
                &["[ddr]", "latancy", "latency", "media_read"],
            ),
            (
                "[switch]\ncurve = []".to_owned(),
                &["[switch]", "curve", "cut_through"],
            ),
            ("ddr = 1".to_owned(), &["[ddr]"]),
            ("[ddr".to_owned(), &["TOML"]),
        ],
    );
    let table = Table::embedded().unwrap();
    let missing = Table::parse("").unwrap_err();
    assert!(
        matches!(missing, TableError::Missing { key: "latency", .. }),
        "{missing}"
    );
    assert!(
        table
            .device("switch")
            .unwrap_err()
            .to_string()
            .contains("cxl-x8")
    );
    assert!(
        table
            .link(33, 8)
            .unwrap_err()
            .to_string()
            .contains("link-32")
    );
}

#[test]
fn a_wrong_value_is_refused_with_its_class_its_key_and_what_is_allowed() {
    let of = |fields: &str| format!("[ddr]\nlatency = {{ {fields} }}");
    let good = "source = \"here\", evidence = \"measured\"";
    let sourced = |fields: &str| of(&format!("{fields}, {good}"));
    all_refused(
        &Table::embedded().unwrap(),
        &[
            (of(good), &["[ddr]", "latency", "value", "unit"][..]),
            (
                of("value = 1.5, unit = \"ns\""),
                &["[ddr]", "latency", "u64"],
            ),
            (
                of("value = -1, unit = \"ns\""),
                &["[ddr]", "latency", "u64"],
            ),
            (
                sourced("value = 1, unit = \"ns\", x = 1"),
                &["[ddr]", "latency", "x"],
            ),
            (
                sourced("value = 1, unit = \"GB/s\""),
                &["[ddr]", "latency", "GB/s", "ps, ns, us"],
            ),
            (
                sourced("value = 0, unit = \"ns\""),
                &["[ddr]", "latency", "1 to 1000000000000 ps"],
            ),
            (
                sourced("value = 9223372036854775807, unit = \"us\""),
                &["[ddr]", "latency", "1 to"],
            ),
            (
                sourced("value = 74, unit = \"ns\""),
                &["[ddr]", "latency", "host + media_read"],
            ),
            (
                of("value = 99, unit = \"ns\", source = \" \", evidence = \"measured\""),
                &["[ddr]", "latency", "source"],
            ),
            (
                of("value = 99, unit = \"ns\", source = \"x\", evidence = \"sure\""),
                &["[ddr]", "latency", "published", "assumed"],
            ),
        ],
    );
}

#[test]
fn a_curve_that_falls_or_is_no_curve_is_refused() {
    let of = |share: u64, points: &str| {
        format!(
            "[[ddr.curve]]\nread_share = {share}\npoints = {points}\nunit = \"ns\"\n\
             source = \"x\"\nevidence = \"measured\"\n"
        )
    };
    let words: &[&str] = &["[ddr]", "curve", "rising"];
    all_refused(
        &Table::embedded().unwrap(),
        &[
            (of(1, "[[1, 5], [2, 4]]"), words),
            (of(1, "[[2, 4], [2, 5]]"), words),
            (of(1, "[]"), words),
            (of(1001, "[[1, 5]]"), words),
            (of(1, "[[1001, 5]]"), words),
            (of(1, "[[1, 5]]") + &of(1, "[[1, 5]]"), words),
        ],
    );
}

#[test]
fn the_parts_of_a_latency_are_its_whole() {
    let table = Table::embedded().unwrap();
    for (class, nanos, links) in [
        ("ddr", 106, 0),
        ("remote-ddr", 140, 0),
        ("cxl-x8", 230, 1),
        ("cxl-fpga", 407, 1),
    ] {
        let mut elements = table.elements().unwrap();
        let link = elements.add(fabric_emu::timing::Element::Link(
            table.link(32, 8).unwrap(),
        ));
        let device = table.device(class).unwrap();
        let path = fabric_emu::timing::Path {
            host: table.host(class).unwrap(),
            hops: vec![link; links],
            device: elements.add(fabric_emu::timing::Element::Device(device)),
        };
        let unloaded = elements.unloaded(&path, Share::ONE).unwrap();
        assert_eq!(unloaded.get(), nanos * 1000, "{class}");
    }
}

#[test]
fn operations_a_second_bound_a_drive_and_credits_bound_a_link() {
    let table = Table::embedded().unwrap();
    let drive = table.device("nvme").unwrap();
    assert_eq!(drive.read, Rate::new(2_500_000 * 4096));
    assert_eq!(drive.write, Rate::new(250_000 * 4096));
    let few = "[link-32]\ncredits = { value = 1, unit = \"count\", source = \"here\", \
               evidence = \"measured\" }";
    let link = table.overlay(few).unwrap().link(32, 8).unwrap();
    // One line of 64 bytes each 20 ns there and back and 2.258 ns to put it on the wire.
    assert_eq!(
        link.up,
        Rate::of(64, fabric_emu::timing::Picos::new(22_258))
    );
    assert!(table.link(32, 8).unwrap().up.get() > 28_000_000_000);
}
