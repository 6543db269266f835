use super::*;

fn settings(arguments: &[&str]) -> Result<Settings> {
    Settings::gather(Args::parse_from([&["cloister-bridge"], arguments].concat()))
}

#[test]
fn a_flag_wins_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cloister.toml");
    std::fs::write(
        &file,
        "[serve]\nlisten = \"127.0.0.1:1\"\n[bridge]\nbroker = \"mqtt://127.0.0.1:7\"\nsocket = \"/s\"\nstate = \"/st\"\nnode = \"n\"\nmqtt-version = \"3.1.1\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let from_file = settings(&["--config", file]).unwrap();
    assert_eq!(from_file.node.to_string(), "n");
    assert_eq!(from_file.wire.version, MqttVersion::V3_1_1);
    assert_eq!(from_file.broker.address.port(), 7);
    let mixed = settings(&["--config", file, "--node", "m", "--mqtt-version", "5"]).unwrap();
    assert_eq!(mixed.node.to_string(), "m");
    assert_eq!(mixed.wire.version, MqttVersion::V5);
}

#[test]
fn a_file_with_an_unknown_key_is_refused_without_quoting_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cloister.toml");
    std::fs::write(&file, "[bridge]\nbrocker = \"mqtt://a:secret@b\"\n").unwrap();
    let error = format!(
        "{:#}",
        settings(&["--config", file.to_str().unwrap()]).unwrap_err()
    );
    assert!(error.contains("brocker"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn home_assistant_finds_the_box_unless_told_otherwise() {
    let with = |more: &[&str]| {
        let needed = [
            "--broker",
            "mqtt://127.0.0.1",
            "--socket",
            "/s",
            "--state",
            "/s",
        ];
        settings(&[&needed, more].concat())
    };
    let found = with(&[]).unwrap();
    assert!(found.topics.are_announced());
    assert!(found.topics.discovery().starts_with("homeassistant/"));
    let off = with(&["--no-discovery", "--discovery-prefix", "ha/main"]).unwrap();
    assert!(!off.topics.are_announced());
    assert!(off.topics.discovery().starts_with("ha/main/"));
    for bad in ["", "a/#", "$SYS", "a/"] {
        let error = with(&["--discovery-prefix", bad]).unwrap_err().to_string();
        assert!(error.contains("discovery prefix"), "{error}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let error = settings(&["--broker", "mqtt://127.0.0.1", "--state", "/s"]).unwrap_err();
    assert!(error.to_string().contains("--socket"), "{error}");
}

#[test]
fn a_figure_out_of_range_is_named_with_the_range() {
    let needed = [
        "--broker",
        "mqtt://127.0.0.1",
        "--socket",
        "/s",
        "--state",
        "/s",
    ];
    for (flag, value, range) in [
        ("--keep-alive", "4", "5 to 3600"),
        ("--max-packet", "1048576", "2097152 to 268435456"),
    ] {
        let error = settings(&[&needed[..], &[flag, value]].concat()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(&flag[2..]) && error.contains(range),
            "{error}"
        );
    }
}
