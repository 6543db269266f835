use super::*;

const HOSTS: &str = "127.0.0.1 localhost # 10.0.0.1 commented\n::1 ip6-localhost\n# 9.9.9.9 off\n192.168.1.5\tbroker.lan Broker\n";

fn broker(url: &str) -> Result<Broker> {
    Broker::parse(url, HOSTS)
}

#[test]
fn the_host_is_an_address_or_a_name_in_the_hosts_file() {
    for (url, address) in [
        ("mqtt://127.0.0.1", "127.0.0.1:1883"),
        ("mqtt://127.0.0.1:18830/", "127.0.0.1:18830"),
        ("mqtt://[::1]:1884", "[::1]:1884"),
        ("mqtt://[::1]", "[::1]:1883"),
        ("mqtt://localhost", "127.0.0.1:1883"),
        ("mqtt://BROKER:1", "192.168.1.5:1"),
        ("mqtt://ip6-localhost", "[::1]:1883"),
    ] {
        assert_eq!(broker(url).unwrap().address.to_string(), address, "{url}");
    }
}

#[test]
fn a_broker_that_cannot_be_reached_as_written_is_refused() {
    for url in [
        "127.0.0.1",
        "http://127.0.0.1",
        "mqttx://127.0.0.1",
        "mqtts://127.0.0.1/path",
        "ws://127.0.0.1/a path",
        "ws://127.0.0.1?query",
        "mqtt://",
        "mqtt://127.0.0.1:0",
        "mqtt://127.0.0.1:70000",
        "mqtt://127.0.0.1:x",
        "mqtt://127.0.0.1/topic",
        "mqtt://commented",
        "mqtt://off",
        "mqtt://example.com",
        "mqtt://a:%zz@127.0.0.1",
        "mqtt://a:%4@127.0.0.1",
    ] {
        assert!(broker(url).is_err(), "{url}");
    }
}

#[test]
fn user_and_password_may_hold_any_character() {
    let found = broker("mqtt://me%3A:p@s:s%2Fü@localhost").unwrap();
    assert_eq!(
        found.login().unwrap(),
        Some(("me:".into(), "p@s:s/ü".into()))
    );
    assert_eq!(
        broker("mqtt://me@localhost").unwrap().login().unwrap(),
        Some(("me".into(), "".into()))
    );
}

#[test]
fn the_password_is_never_shown() {
    let found = broker("mqtt://me:secret@localhost").unwrap();
    assert!(!format!("{found:?}").contains("secret"));
}

#[test]
fn each_scheme_has_its_usual_port_and_a_websocket_its_path() {
    for (url, port, tls, path) in [
        ("mqtt://localhost", 1883, false, None),
        ("mqtts://localhost", 8883, true, None),
        ("ws://localhost", 80, false, Some("/")),
        ("wss://me:pass@[::1]/mqtt?x=1", 443, true, Some("/mqtt?x=1")),
        ("ws://localhost:9001/mqtt", 9001, false, Some("/mqtt")),
    ] {
        let found = broker(url).unwrap();
        assert_eq!(found.address.port(), port, "{url}");
        assert_eq!(found.tls.is_some(), tls, "{url}");
        assert_eq!(found.websocket.as_deref(), path, "{url}");
    }
}

#[test]
fn a_login_file_holds_one_line_and_is_read_again_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("login");
    for bad in [
        "",
        "me",
        ":secret",
        "me:secret\nyou:secret",
        &"x".repeat(200_000),
    ] {
        std::fs::write(&file, bad).unwrap();
        let error = broker("mqtt://localhost")
            .unwrap()
            .with_login_file(Some(file.clone()));
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("login"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    std::fs::write(&file, "me:s:e c\r\n").unwrap();
    let found = broker("mqtt://localhost")
        .unwrap()
        .with_login_file(Some(file.clone()));
    let found = found.unwrap();
    assert_eq!(found.login().unwrap(), Some(("me".into(), "s:e c".into())));
    std::fs::write(&file, "me:new").unwrap();
    assert_eq!(found.login().unwrap(), Some(("me".into(), "new".into())));
    std::fs::remove_file(&file).unwrap();
    assert!(found.login().is_err());
    let twice = broker("mqtt://a:b@localhost")
        .unwrap()
        .with_login_file(Some(file));
    assert!(twice.unwrap_err().to_string().contains("keep one"));
}

#[test]
fn certificates_belong_to_tls_and_tls_needs_its_ca() {
    let with = |url: &str, given: [Option<&str>; 3]| {
        let [ca, certificate, key] = given.map(|file| file.map(PathBuf::from));
        broker(url).unwrap().with_certificates(ca, certificate, key)
    };
    assert!(with("mqtt://localhost", [None; 3]).is_ok());
    assert!(with("mqtts://localhost", [Some("ca"), None, None]).is_ok());
    assert!(with("wss://localhost", [Some("ca"), Some("c"), Some("k")]).is_ok());
    for (url, given, named) in [
        ("mqtts://localhost", [None; 3], "need --cafile"),
        ("ws://localhost", [Some("ca"), None, None], "neither"),
        (
            "mqtts://localhost",
            [Some("ca"), Some("c"), None],
            "give both",
        ),
    ] {
        let error = with(url, given).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_client_id_is_nobodys_to_guess_where_a_program_made_the_password_and_stays_the_same() {
    let node = Node::parse("attic").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let of = |login: &str| {
        let file = folder.path().join("login");
        std::fs::write(&file, login).unwrap();
        let broker = broker("mqtt://localhost").unwrap();
        let broker = broker.with_login_file(Some(file)).unwrap();
        broker.client_id(&node).unwrap()
    };
    let made = "bridge:000102030405060708090a0b0c0d0e0f\n";
    let id = of(made);
    let secret = id.strip_prefix("cloister-attic-").unwrap();
    assert!(
        secret.len() == 16 && u64::from_str_radix(secret, 16).is_ok(),
        "{id}"
    );
    assert_eq!(of(made), id);
    assert_ne!(of("bridge:000102030405060708090a0b0c0d0e1f\n"), id);
    for chosen in ["me:secret", "me:", "me:zz0102030405060708090a0b0c0d0e0f"] {
        assert_eq!(of(chosen), "cloister-attic", "{chosen}");
    }
    let by_url = broker("mqtt://a:000102030405060708090a0b0c0d0e0f@localhost").unwrap();
    assert_eq!(by_url.client_id(&node).unwrap(), "cloister-attic");
}
