//! Chat templates that are anybody's: whatever their bytes are, they are refused or rendered, and none makes its reader
//! panic, or go on for ever.
//!
//! The fuzz targets in `tests/fuzz` call this with what they think of; the test below with changed copies of sound ones.

#[cfg(test)]
#[path = "../../../tests/src/mutation.rs"]
mod mutation;

use serde_json::json;

use crate::chat::{ChatTemplate, Conversation, Message};
use crate::tools::{Tool, ToolCall};

/// A template's source: parsed, and rendered with all that a conversation may have.
pub fn template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else {
        return;
    };
    let (bos, eos) = ("<s>".to_owned(), "</s>".to_owned());
    if let Ok(template) = ChatTemplate::new(source.to_owned(), bos, eos, None) {
        for conversation in [Conversation::default(), conversation()] {
            let panicked = Err("the chat template cannot be rendered".to_owned());
            assert_ne!(template.render(&conversation), panicked);
        }
    }
}

fn conversation() -> Conversation {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let mut calls = Message::new("assistant", "<think>\nHm.\n</think>\n\nI look.");
    calls.calls.push(ToolCall {
        name: "weather".to_owned(),
        arguments: json!({"city": "Bern", "days": [1, 2.5, null, true]}),
    });
    Conversation {
        messages: vec![
            Message::new("system", "You are brief."),
            Message::new("user", "How is it in Bern? \n"),
            calls,
            Message::new("tool", "{\"sky\": \"é\"}"),
            Message::new("user", ""),
        ],
        think: Some(true),
        tools: vec![Tool {
            name: "weather".to_owned(),
            parameters: parameters.clone(),
            strict: false,
            json: json!({"type": "function", "function": {"name": "weather", "parameters": parameters}}),
        }],
    }
}

/// Sound templates, which use what those of models use.
pub fn seeds() -> Vec<Vec<u8>> {
    let sources = [
        "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m.content.strip() + eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}",
        "{%- if tools %}# Tools\n{%- for tool in tools %}\n{{ tool | tojson(indent=2) }}{% endfor %}<tool_call>{% endif %}{%- set ns = namespace(last=0, text='') %}{%- for m in messages[::-1] %}{%- if m.role == 'user' and ns.last == 0 %}{%- set ns.last = loop.index0 %}{%- endif %}{%- set ns.text = ns.text ~ m.role %}{%- endfor %}{{ ns.text | upper | trim }}",
        "{%- macro call(c) -%}<tool_call>{{ c.function.name }}{{ c.function.arguments | tojson }}</tool_call>{%- endmacro -%}{%- for m in messages -%}{%- if m.tool_calls is defined and m.tool_calls -%}{%- for c in m.tool_calls -%}{{ call(c) }}{%- endfor -%}{%- elif m.content is string -%}{{ m.content.split('</think>')[-1].lstrip('\\n') | replace('a', 'b') }}{%- else -%}{{ raise_exception('no text') }}{%- endif -%}{%- endfor -%}",
        "{% set a = messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list %}{{ a | join('; ') }}{% set k = {'x': [1, 2], 'y': none} %}{% for key, value in k | dictsort %}{{ '%s=%s' | format(key, value) }}{% endfor %}{{ range(3) | list | length + 2 ** 3 // 2 % 5 }}{{ 'a' if a is iterable else 'b' }}{{ messages[0]['content'][1:3] in 'xyz' }}",
        "{% filter indent(2) %}{% for i in range(0, 9, 2) if i != 4 %}{{ loop.cycle('a', 'b') }}{% if i > 6 %}{% break %}{% endif %}{% else %}none{% endfor %}{% endfilter %}{{ messages | length }}{{ undefined | default('x') | title }}{{ 'a,b'.split(',') | first }}{{ {'a': 1}.items() | list }}{{ 'x' * 3 ~ [1] * 2 }}{{ messages | tojson }}",
    ];
    sources.map(|source| source.as_bytes().to_vec()).to_vec()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn the_sound_templates_are_rendered() {
        for seed in seeds() {
            let source = String::from_utf8(seed).unwrap();
            let template =
                ChatTemplate::new(source.clone(), String::new(), String::new(), None).unwrap();
            let rendered = template.render(&conversation());
            assert!(rendered.is_ok(), "{source}: {rendered:?}");
        }
    }

    #[test]
    fn no_template_of_the_fuzz_corpus_makes_it_panic() {
        let corpus = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fuzz/corpus/chat_template"
        );
        let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
        assert!(files.len() > 20, "{}", files.len());
        for file in files {
            template(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn no_change_of_a_sound_template_makes_it_panic() {
        for seed in seeds() {
            let mut random = mutation::Random::default();
            for round in 0..500 {
                let mut bytes = seed.clone();
                random.change_some(&mut bytes);
                let shown = String::from_utf8_lossy(&bytes);
                let sound = catch_unwind(|| template(&bytes)).is_ok();
                assert!(sound, "round {round}: {shown}");
            }
        }
    }
}
