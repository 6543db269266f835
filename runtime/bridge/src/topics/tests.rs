use super::*;

#[test]
fn an_id_is_one_topic_level_of_at_most_128_characters() {
    for good in ["1", "a b", "ü".repeat(128).as_str(), "$x"] {
        assert!(AskId::parse(good).is_ok(), "{good:?}");
    }
    for bad in [
        "",
        "a/b",
        "+",
        "#",
        "a\u{7}",
        "\u{0}",
        "x".repeat(129).as_str(),
        "invalid",
        "last",
        "text",
    ] {
        assert!(AskId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn made_ids_are_usable_and_differ() {
    let (a, b) = (AskId::random(), AskId::random());
    assert_ne!(a, b);
    assert!(AskId::parse(&a.to_string()).is_ok());
}

#[test]
fn a_reply_topic_leads_neither_back_to_an_ask_nor_into_the_brokers_own() {
    let topics = Topics::of(&Node::parse("n").unwrap(), &[]);
    for good in ["answers/me", "cloister/n/answer/x", "answers/me/ask"] {
        assert!(topics.check_reply_to(good).is_ok(), "{good:?}");
    }
    for bad in [
        "",
        "a/+",
        "a/#",
        "a\u{0}",
        "$SYS/x",
        "$share/p/x",
        "cloister/n/ask",
        "cloister/n/cancel",
        "cloister/n/status",
        "cloister/n/stream/x",
        "cloister/other/ask",
        "cloister/pool/p/ask",
        "cloister/other/default/model/set",
        "x".repeat(65_536).as_str(),
    ] {
        assert!(topics.check_reply_to(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn answers_go_where_the_owner_said_and_unless_he_did_below_answers_alone() {
    let node = |name| Node::parse(name).unwrap();
    let usual = Topics::of(&node("n"), &[node("p")]);
    let chosen = usual.clone();
    let chosen = chosen.allow_replies(vec!["home".into(), "replies/of".into()]);
    let own = ["cloister/n/answer/x", "cloister/pool/p/answer/x"];
    for (topics, good) in [
        (&usual, ["answers/me", "answers/me/too"]),
        (&chosen, ["home/x", "replies/of/y"]),
    ] {
        for good in own.into_iter().chain(good) {
            assert!(topics.check_reply_to(good).is_ok(), "{good:?}");
        }
        for bad in [
            "zigbee2mqtt/frontdoor/set",
            "answers",
            "answers2/x",
            "home2/x",
            "replies/x",
            "cloister/other/x",
            "cloister/other/answer/x",
            "cloister/pool/other/answer/x",
            "homeassistant/device/n/config",
        ] {
            assert!(topics.check_reply_to(bad).is_err(), "{bad:?}");
        }
    }
    assert!(usual.check_reply_to("home/x").is_err() && chosen.check_reply_to("answers/x").is_err());
    let error = chosen.check_reply_to("zigbee/door/set").unwrap_err();
    assert!(error.contains("home, replies/of"), "{error}");
}

#[test]
fn home_assistant_finds_the_box_where_it_is_told_to() {
    let node = Node::parse("box-1.lan").unwrap();
    let topics = Topics::of(&node, &[]).announce("ha".into(), true);
    assert_eq!(topics.discovery(), "ha/device/box-1_lan/config");
    assert_eq!(topics.purpose("ha/status"), Some(Purpose::HomeAssistant));
    let silent = topics.announce("ha".into(), false);
    assert_eq!(silent.home_assistant(), None);
    assert_eq!(silent.purpose("ha/status"), None);
}

#[test]
fn a_pools_asks_are_shared_and_known_by_their_topic() {
    let node = |name| Node::parse(name).unwrap();
    let topics = Topics::of(&node("n"), &[node("p")]);
    assert_eq!(
        topics.filters(),
        [
            "cloister/n/ask",
            "cloister/n/cancel",
            "cloister/n/stop",
            "cloister/n/default/model/set",
            "cloister/n/default/think/set",
            "cloister/n/warm-up",
            "$share/p/cloister/pool/p/ask",
            "cloister/pool/p/cancel"
        ]
    );
    let pool = Place::Pool("p".into());
    for (topic, purpose) in [
        ("cloister/n/ask", Some(Purpose::Ask(Place::Own))),
        ("cloister/n/stop", Some(Purpose::Stop)),
        (
            "cloister/n/default/think/set",
            Some(Purpose::Set(Setting::Think)),
        ),
        ("cloister/n/default/think", None),
        ("homeassistant/status", Some(Purpose::HomeAssistant)),
        ("cloister/pool/p/ask", Some(Purpose::Ask(pool.clone()))),
        (
            "cloister/pool/p/cancel",
            Some(Purpose::Cancel(pool.clone())),
        ),
        (
            "cloister/pool/left/ask",
            Some(Purpose::Ask(Place::Pool("left".into()))),
        ),
        ("cloister/pool/+/ask", None),
        ("cloister/n/state", None),
    ] {
        assert_eq!(topics.purpose(topic), purpose, "{topic}");
    }
    let id = AskId::parse("7").unwrap();
    assert_eq!(topics.answer(&pool, &id), "cloister/pool/p/answer/7");
}
