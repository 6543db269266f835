//! Tools: a model calls them where its template knows them and where it does not.

use cloister_tests::parts::{SMOLLM2, cached, scripted_r1, smollm2};
use cloister_tests::python;
use cloister_tests::serve::Serve;
use serde_json::{Value, json};

const QWEN: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m";

fn qwen() -> Serve {
    Serve::start(&cached(&format!("{QWEN}.gguf")), &["--ctx", "2048"])
}

/// A light that can be turned on, and a clock.
fn tools() -> Value {
    json!([
        {"type": "function", "function": {
            "name": "turn_on",
            "description": "Turns on the light of a room.",
            "parameters": {
                "type": "object",
                "properties": {
                    "room": {"type": "string", "enum": ["kitchen", "hall"]},
                    "brightness": {"type": "integer", "minimum": 1, "maximum": 100},
                },
                "required": ["room"],
                "additionalProperties": false,
            },
        }},
        {"type": "function", "function": {"name": "get_time", "description": "Tells the time."}},
    ])
}

fn ask(text: &str, choice: Value) -> Value {
    json!({
        "messages": [{"role": "user", "content": text}],
        "tools": tools(), "tool_choice": choice, "temperature": 0, "max_tokens": 120,
    })
}

/// Names and arguments of the calls, and the text beside them; the streamed answer has the same.
fn calls(serve: &Serve, request: &Value) -> (Vec<(String, Value)>, String) {
    let answer = serve.chat(request);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let choice = answer.json()["choices"][0].clone();
    let message = &choice["message"];
    let read = |call: &Value| {
        let function = &call["function"];
        let arguments = function["arguments"].as_str().expect("arguments are text");
        assert_eq!(call["type"], "function", "{call}");
        assert!(call["id"].as_str().unwrap().starts_with("call_"), "{call}");
        (
            function["name"].as_str().unwrap().to_owned(),
            serde_json::from_str(arguments).expect(arguments),
        )
    };
    let whole = |calls: &Value| {
        calls
            .as_array()
            .map_or(Vec::new(), |calls| calls.iter().map(read).collect())
    };
    let found: Vec<(String, Value)> = whole(&message["tool_calls"]);
    let reason = if found.is_empty() {
        "stop"
    } else {
        "tool_calls"
    };
    assert_eq!(choice["finish_reason"], reason, "{choice}");
    let text = message["content"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        message["content"].is_null(),
        text.is_empty() && !found.is_empty(),
        "{message}"
    );

    let events = serve.chat_stream(request);
    let mut streamed = Vec::new();
    for (i, event) in events.iter().enumerate() {
        let delta = &event["choices"][0]["delta"];
        assert_eq!(i == 0, delta["role"] == "assistant", "{event}");
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            assert_eq!(call["index"], streamed.len(), "{event}");
            assert_eq!(delta["tool_calls"].as_array().unwrap().len(), 1, "{event}");
            streamed.push(read(call));
        }
    }
    assert_eq!(streamed, found);
    let pieces = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), text);
    let last = &events.last().unwrap()["choices"][0];
    assert_eq!(
        (&last["finish_reason"], &last["delta"]),
        (&json!(reason), &json!({}))
    );
    (found, text)
}

/// Offers a clock whose one argument has one value, and sees it called so.
fn assert_calls_the_clock(serve: &Serve, request: &mut Value) {
    request["tools"] = json!([{"type": "function", "function": {"name": "get_time", "parameters": {
        "type": "object", "properties": {"zone": {"const": "CET"}}, "required": ["zone"], "additionalProperties": false,
    }}}]);
    request["parallel_tool_calls"] = json!(false);
    let (found, text) = calls(serve, request);
    assert_eq!(
        found,
        [("get_time".to_owned(), json!({"zone": "CET"}))],
        "{text}"
    );
}

#[test]
fn a_model_whose_template_knows_tools_calls_them_of_itself() {
    let serve = qwen();
    let light = ask("Turn on the light in the kitchen.", json!("auto"));
    let (found, _) = calls(&serve, &light);
    assert_eq!(found[0].0, "turn_on", "{found:?}");
    assert_eq!(found[0].1["room"], "kitchen", "{found:?}");
    // It may answer as well; and must, where it shall not call.
    let (found, text) = calls(
        &serve,
        &ask("Turn on the light in the kitchen.", json!("none")),
    );
    assert!(
        found.is_empty() && !text.is_empty() && !text.contains("tool_call"),
        "{text}"
    );

    let mut conversation = light;
    let messages = conversation["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "turn_on", "arguments": "{\"room\": \"kitchen\"}"}},
    ]}));
    messages.push(json!({"role": "tool", "tool_call_id": "call_1", "content": "The light in the kitchen is broken."}));
    conversation["tool_choice"] = json!("none");
    let (found, text) = calls(&serve, &conversation);
    assert!(
        found.is_empty() && text.to_lowercase().contains("kitchen"),
        "{text}"
    );
}

#[test]
fn a_call_that_must_be_made_is_made_as_its_schema_says() {
    for model in [cached(&format!("{QWEN}.gguf")), smollm2()] {
        let serve = Serve::start(&model, &["--ctx", "2048"]);
        for text in ["Turn on the light in the hall.", "Hello!"] {
            let mut request = ask(text, json!("required"));
            request["parallel_tool_calls"] = json!(false);
            let (found, said) = calls(&serve, &request);
            assert!(found.len() == 1 && said.is_empty(), "{found:?} {said}");
            assert!(
                ["turn_on", "get_time"].contains(&found[0].0.as_str()),
                "{found:?}"
            );
        }
        let mut named = ask(
            "Hello!",
            json!({"type": "function", "function": {"name": "turn_on"}}),
        );
        named["temperature"] = json!(1.5);
        named["parallel_tool_calls"] = json!(false);
        for seed in 0..4 {
            named["seed"] = json!(seed);
            let (found, _) = calls(&serve, &named);
            let (name, arguments) = &found[0];
            assert_eq!(name, "turn_on");
            assert!(
                ["kitchen", "hall"].contains(&arguments["room"].as_str().unwrap()),
                "{found:?}"
            );
            let brightness = arguments.get("brightness").map(|n| n.as_i64().unwrap());
            assert!(
                brightness.is_none_or(|n| (1..=100).contains(&n)),
                "{found:?}"
            );
        }
    }
}

#[test]
fn a_call_that_begins_without_a_tag_and_on_lines_of_its_own_is_held_to_its_tool() {
    let folder = tempfile::tempdir().unwrap();
    let script = [
        "Ċ", "</think>", "{Ċ", "Ġ\"", "name", "\":\"", "get", "_time", "\"", "Yes",
    ];
    let serve = Serve::start(&scripted_r1(folder.path(), &script), &["--ctx", "1024"]);
    let mut request = ask("What time is it?", json!("auto"));
    assert_calls_the_clock(&serve, &mut request);
}

#[test]
fn a_model_that_thinks_calls_after_its_thought() {
    let folder = tempfile::tempdir().unwrap();
    let script = ["Ċ", "Hmm", "</think>", "ĊĊ", "Yes", "<｜end▁of▁sentence｜>"];
    let serve = Serve::start(&scripted_r1(folder.path(), &script), &["--ctx", "1024"]);
    let mut request = ask(
        "What time is it?",
        json!({"type": "function", "function": {"name": "get_time"}}),
    );
    assert_calls_the_clock(&serve, &mut request);
    let message = serve.chat(&request).json()["choices"][0]["message"].clone();
    assert_eq!(message["reasoning_content"], "Hmm", "{message}");
    // What was called and what came of it are part of the next prompt, for a template that knows neither.
    let count = |messages: Value| {
        let answer = serve.chat(&json!({"messages": messages, "max_tokens": 1}));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let user = json!({"role": "user", "content": "What time is it?"});
    let called = json!({"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}]});
    let result = |text: &str| json!({"role": "tool", "tool_call_id": "a", "content": text});
    let short = count(json!([user, called, result("7")]));
    let long = count(json!([
        user,
        called,
        result("seven o'clock in the morning, and it rains")
    ]));
    assert!(
        long > short + 5 && short > count(json!([user])) + 10,
        "{short} {long}"
    );
}

#[test]
fn tools_that_make_no_sense_are_refused() {
    let serve = Serve::start(&smollm2(), &["--ctx", "2048"]);
    let refused = |name: &str, value: Value, param: &str| {
        let mut request = ask("Hi", json!("auto"));
        request[name] = value.clone();
        let answer = serve.chat(&request);
        assert_eq!(answer.status, 400, "{value}: {}", answer.body);
        assert_eq!(
            answer.json()["error"]["param"],
            param,
            "{value}: {}",
            answer.body
        );
    };
    let function = |function: Value| json!([{"type": "function", "function": function}]);
    refused("tools", json!("light"), "tools");
    refused("tools", json!([{"type": "retrieval"}]), "tools[0].type");
    refused("tools", function(json!({})), "tools[0].function.name");
    refused(
        "tools",
        function(json!({"name": "a b"})),
        "tools[0].function.name",
    );
    refused(
        "tools",
        function(json!({"name": "x", "parameters": []})),
        "tools[0].function.parameters",
    );
    let parameters = "tools[0].function.parameters";
    let strict = json!({"name": "x", "strict": true, "parameters": {"type": "object", "not": {}}});
    refused("tools", function(strict), parameters);
    refused(
        "tools",
        function(json!({"name": "x", "parameters": {"type": "thing"}})),
        parameters,
    );
    let twice = json!([tools()[0], tools()[0]]);
    refused("tools", twice, "tools[1].function.name");
    refused("tool_choice", json!("perhaps"), "tool_choice");
    refused(
        "tool_choice",
        json!({"type": "function", "function": {"name": "nobody"}}),
        "tool_choice",
    );
    let mut without = ask("Hi", json!("required"));
    without.as_object_mut().unwrap().remove("tools");
    assert_eq!(serve.chat(&without).json()["error"]["param"], "tool_choice");
    // What a loose schema says beyond what can be held is the client's to check.
    let mut loose = ask("Hi", json!("required"));
    loose["tools"] = function(
        json!({"name": "x", "parameters": {"type": "object", "properties": {}, "not": {}}}),
    );
    assert_eq!(serve.chat(&loose).status, 200);
}

#[test]
fn clients_of_both_kinds_call_and_answer() {
    let serve = qwen();
    python::run("tools.py", &[&serve.url, QWEN]);
}

#[test]
fn a_schema_that_no_call_can_keep_to_is_told_by_its_tool_and_in_its_words() {
    let serve = Serve::start(&smollm2(), &["--ctx", "2048"]);
    let tool = |name: &str, parameters: &Value| json!({"type": "function", "function": {"name": name, "strict": true, "parameters": parameters}});
    let sound = json!({"type": "object", "properties": {"room": {"type": "string"}}});
    let endless = json!({"properties": {"next": {"$ref": "#"}}, "required": ["next"]});
    let wrong = json!({"type": "object", "patternProperties": {"(": {}}});
    let unknown = json!({"type": "object", "not": {}});
    for (tools, wrong, word) in [
        (
            json!([tool("sound", &sound), tool("other", &unknown)]),
            1,
            "not",
        ),
        (
            json!([tool("sound", &sound), tool("other", &wrong)]),
            1,
            "(",
        ),
        (json!([tool("other", &endless)]), 0, "(#)"),
    ] {
        let mut request = ask("Hi", json!("auto"));
        request["tools"] = tools.clone();
        let answer = serve.chat(&request);
        assert_eq!(answer.status, 400, "{tools}: {}", answer.body);
        let error = &answer.json()["error"];
        let param = format!("tools[{wrong}].function.parameters");
        assert_eq!(error["param"], param, "{error}");
        let said = error["message"].as_str().unwrap();
        assert!(said.contains(word), "{said}");
        for internal in ["tool_call", "%json", "x-guidance", "open:", "start:"] {
            assert!(!said.contains(internal), "{said}");
        }
    }
    assert_eq!(serve.metric("prompt_tokens_total"), 0.0);
}

#[test]
fn a_tools_references_are_to_its_own_schema() {
    let serve = Serve::start(&smollm2(), &["--ctx", "2048"]);
    let tool = |name: &str, room: &str| {
        json!({"type": "function", "function": {"name": name, "strict": true, "parameters": {
            "type": "object", "properties": {"room": {"$ref": "#/$defs/room"}}, "required": ["room"], "$defs": {"room": {"const": room}},
        }}})
    };
    let mut request = ask("Turn on the light.", json!("required"));
    request["tools"] = json!([tool("one", "kitchen"), tool("two", "hall")]);
    request["parallel_tool_calls"] = json!(false);
    for (name, room) in [("one", "kitchen"), ("two", "hall")] {
        request["tool_choice"] = json!({"type": "function", "function": {"name": name}});
        let (found, _) = calls(&serve, &request);
        assert_eq!(found, [(name.to_owned(), json!({"room": room}))]);
    }
    request["tool_choice"] = json!("required");
    let (found, _) = calls(&serve, &request);
    let room = if found[0].0 == "one" {
        "kitchen"
    } else {
        "hall"
    };
    assert_eq!(found[0].1, json!({"room": room}));
}

#[test]
fn home_assistant_controls_a_light() {
    let serve = qwen();
    python::run("home_assistant_tools.py", &[&serve.url, QWEN]);
}

#[test]
fn a_shape_and_tools_go_together() {
    let serve = Serve::start(&smollm2(), &["--ctx", "2048"]);
    let mut request = ask("Hello! Just greet me.", json!("auto"));
    request["response_format"] = json!({"type": "json_schema", "json_schema": {"schema": {
        "type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"], "additionalProperties": false,
    }}});
    for seed in 0..4 {
        request["seed"] = json!(seed);
        request["temperature"] = json!(1.0);
        let (found, text) = calls(&serve, &request);
        let shaped = ["{\"mood\": \"good\"}", "{\"mood\": \"bad\"}"].contains(&text.as_str());
        assert!(
            found.is_empty() == shaped && (shaped || text.is_empty()),
            "{SMOLLM2}: {found:?} {text}"
        );
    }
}
