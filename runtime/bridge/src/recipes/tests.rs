use bytes::Bytes;
use cloister_program::node::Node;

use super::*;

fn topics() -> Topics {
    Topics::of(&Node::parse("n").unwrap(), &[])
}

fn read(text: &str) -> Result<Recipes> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cloister.toml");
    std::fs::write(&file, text).unwrap();
    Recipes::read(Some(&file), &topics())
}

fn doorbell(further: &str) -> String {
    format!(
        "[[recipe]]\nname = \"doorbell\"\ntopic = \"home/+/text\"\nprompt = \"{{{{ levels[1] }}}}: {{{{ text }}}}\"\nresult = \"home/+/summary\"\n{further}\n"
    )
}

fn message(topic: &str, payload: &'static [u8]) -> Message {
    Message {
        topic: topic.into(),
        payload: Bytes::from_static(payload),
        packet: None,
        retained: false,
        content_type: None,
        user_properties: Vec::new(),
        response_topic: None,
        correlation: None,
        expiry_seconds: None,
    }
}

/// What the first recipe asks of a message on `home/attic/text`.
fn asked(recipes: &Recipes, payload: &'static [u8]) -> Result<Option<(Ask, String)>, String> {
    let message = message("home/attic/text", payload);
    let recipe = recipes.on(&message.topic).next().unwrap();
    recipes.ask(recipe, &message, &topics())
}

#[test]
fn a_message_becomes_an_ask_whose_answer_goes_where_its_levels_lead() {
    let recipes = read(&doorbell(
        "max_tokens = 9\nthink = false\nformat = \"json\"",
    ))
    .unwrap();
    let (ask, result) = asked(&recipes, b"The post is here.").unwrap().unwrap();
    assert_eq!(
        ask.request["messages"][0]["content"],
        "attic: The post is here."
    );
    assert_eq!(ask.request["max_tokens"], 9);
    assert_eq!(ask.request["think"], false);
    assert_eq!(ask.request["response_format"]["type"], "json_object");
    assert_eq!(result, "home/attic/summary");
    assert_eq!(recipes.on("home/attic/summary").count(), 0);
    assert_eq!(recipes.filters(), ["home/+/text"]);
}

#[test]
fn json_is_there_for_templates_and_what_is_missing_in_it_fails_without_being_quoted() {
    let text = doorbell("").replace("{{ text }}", "{{ json.who }}");
    let recipes = read(&text).unwrap();
    let (ask, _) = asked(&recipes, br#"{"who":"Ann"}"#).unwrap().unwrap();
    assert_eq!(ask.request["messages"][0]["content"], "attic: Ann");
    for bad in [b"secret".as_slice(), br#"{"secret":1}"#, b"\xff"] {
        let why = asked(&recipes, bad).unwrap_err();
        assert!(!why.contains("secret"), "{why}");
    }
    let figures = &recipes.figures()["doorbell"];
    assert_eq!(figures["asked"], 1);
    assert_eq!(figures["failed"], 3);
}

#[test]
fn a_template_that_does_not_end_is_ended() {
    let text = doorbell("").replace(
        "{{ text }}",
        "{% for n in range(100000) %}{% for m in range(100000) %}x{% endfor %}{% endfor %}",
    );
    let why = asked(&read(&text).unwrap(), b"x").unwrap_err();
    assert!(why.contains("template fails"), "{why}");
}

#[test]
fn old_news_and_more_than_its_share_ask_nothing() {
    let recipes = read(&doorbell("per_minute = 2")).unwrap();
    let mut old = message("home/attic/text", b"old");
    old.retained = true;
    let recipe = &recipes.recipes[0];
    assert!(recipes.ask(recipe, &old, &topics()).unwrap().is_none());
    assert!(asked(&recipes, b"1").unwrap().is_some());
    assert!(asked(&recipes, b"2").unwrap().is_some());
    assert!(asked(&recipes, b"3").unwrap().is_none());
    assert_eq!(recipes.figures()["doorbell"]["skipped"], 2);
    assert!(recipe.may_ask(Instant::now() + A_MINUTE));
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_recipe() {
    let swap = |from: &str, to: &str| doorbell("").replace(from, to);
    let other = "[[recipe]]\nname = \"other\"\ntopic = \"home/attic/summary\"\nprompt = \"x\"\nresult = \"y\"\n";
    for (text, named) in [
        (swap("home/+/summary", "home/+/text"), "set off"),
        (swap("home/+/summary", "home/#"), "fewer"),
        (doorbell("") + other, "set off"),
        (doorbell("") + &doorbell(""), "name of its own"),
        (swap("home/+/summary", "cloister/+/ask"), "own topics"),
        (swap("home/+/text", "+/#"), "own topics"),
        (swap("home/+/text", "cloister/n/answer/+"), "own topics"),
        (swap("home/+/text", "home/+bad/text"), "whole level"),
        (swap("{{ text }}", "{{ text"), "no template"),
        (doorbell("max_tokens = 0"), "max_tokens"),
        (doorbell("max_tokenz = 5"), "max_tokenz"),
        (doorbell("per_minute = 0"), "per_minute"),
        (doorbell("id = \"x\""), "\"id\""),
        (
            doorbell("")
                + &doorbell("")
                    .replace("doorbell", "b")
                    .replace("home/+/text", "home/attic/text")
                    .replace("home/+/summary", "y"),
            "different patterns",
        ),
    ] {
        let error = format!(
            "{:#}",
            read(&text).err().unwrap_or_else(|| panic!("{text}"))
        );
        assert!(error.contains(named), "{named}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
