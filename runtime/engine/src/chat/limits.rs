//! What a chat template may use of time, memory and stack.
//!
//! minijinja counts steps and bytes as fuel, 64 bytes to one. What it does not count before it is made is counted here:
//! the values that `join` and our `tojson` put together, and how deep they lie in each other. As a template can make
//! values lie deeper in each other than a usual stack can drop them, it runs on a stack of its own. Not bounded here: the
//! text of a list that holds one long string many times, as `'' ~ [a] * 100000` is. `serve` has a process for that.

use minijinja::value::{Kwargs, StringInput, ValueKind};
use minijinja::{Error, ErrorKind, State, Value, filters};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Steps for any conversation, which is 64 MB of text.
const FUEL: u64 = 1_000_000;
/// At most, whatever the conversation: its every byte is worth one, as it may be copied many times.
const MOST_FUEL: u64 = 4_000_000;
/// Bytes that one fuel pays for.
const BYTES: usize = 64;
/// How deep values that a template puts together may lie in each other.
const MOST_DEEP: usize = 100;

/// The longest source; those of real models have tens of thousands of bytes.
pub const MOST_SOURCE: usize = 256 << 10;
/// Of the stack that templates are parsed and rendered on in a process that must not be lost. Used for as long as values are that deep only.
const STACK: usize = 1 << 30;

/// Does this on a stack that is deep enough for whatever a template of [`MOST_SOURCE`] bytes with [`MOST_FUEL`] does.
pub fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("template".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("no thread for the chat template: {error}"))?
            .join()
            .map_err(|_| "the chat template cannot be rendered".to_owned())
    })
}

/// The fuel for variables whose JSON has this many bytes.
pub fn fuel(bytes: usize) -> u64 {
    (FUEL + bytes as u64).min(MOST_FUEL)
}

/// Python's methods, as far as templates call them.
pub fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if name == "format" && value.as_str().is_some_and(has_a_long_number) {
        let message = "a format with a width of more than three digits";
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    if let [list] = arguments
        && name == "join"
        && value.as_str().is_some()
    {
        let list = weighed(state, list)?;
        return unknown_method_callback(state, value, name, &[list]);
    }
    unknown_method_callback(state, value, name, arguments)
}

/// Whether four digits stand beside each other.
fn has_a_long_number(text: &str) -> bool {
    let digits = |four: &[u8]| four.iter().all(u8::is_ascii_digit);
    text.as_bytes().windows(4).any(digits)
}

/// The filter `join`.
pub fn join(
    state: &mut State<'_, '_>,
    list: &Value,
    between: Option<StringInput<'_>>,
    attribute: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    let list = weighed(state, list)?;
    filters::join(state, &list, between, attribute, options)
}

/// The same value, with all in it paid for, and nothing in it that can be read once only or is made when it is read.
pub fn weighed(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    weighed_below(state, value, MOST_DEEP)
}

fn weighed_below(state: &State<'_, '_>, value: &Value, levels: usize) -> Result<Value, Error> {
    let bytes = value.as_str().map_or(0, str::len);
    state.consume_fuel((bytes / BYTES + 1) as u64)?;
    let Some(below) = levels.checked_sub(1) else {
        let message = format!("values lie more than {MOST_DEEP} deep in each other");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    };
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?;
            let items = items.map(|item| weighed_below(state, &item, below));
            Ok(Value::from(items.collect::<Result<Vec<_>, _>>()?))
        }
        ValueKind::Map => {
            let pairs = value.try_iter()?.map(|name| {
                let item = weighed_below(state, &value.get_item(&name)?, below)?;
                Ok((weighed_below(state, &name, below)?, item))
            });
            let pairs = pairs.collect::<Result<Vec<(Value, Value)>, Error>>()?;
            Ok(Value::from_pairs(pairs))
        }
        _ => Ok(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use crate::chat::{ChatTemplate, Message};

    fn render(source: &str) -> Result<String, String> {
        let template = ChatTemplate::new(source.to_owned(), String::new(), String::new(), None);
        let conversation = vec![Message::new("user", "hello ".repeat(1_000_000))].into();
        template?.render(&conversation)
    }

    #[test]
    fn what_a_hostile_template_asks_for_is_refused_before_it_is_there() {
        for source in [
            // Steps.
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
            // Bytes.
            "{{ 'x' * 1000000000000 }}",
            "{% set a = 'x' * 1000000 %}{{ a.replace('x', a) }}",
            "{% set a = 'x' * 1000000 %}{{ ''.join([a] * 100000) }}",
            "{% set a = 'x' * 1000000 %}{{ ([a] * 100000) | join }}",
            "{% set a = 'x' * 1000000 %}{{ ([a] * 100000) | tojson }}",
            "{% set a = 'x' * 1000000 %}{{ {'a': [a] * 100000} | tojson }}",
            "{{ messages | tojson(indent=1000000000000) }}",
            "{{ 'x' | indent(1000000000000) }}",
            "{{ '%1000000000000s' | format('x') }}",
            "{{ '{:.1000000000000f}'.format(1.5) }}",
            "{{ '{:>1000000000000}'.format('x') }}",
            "{% set ns = namespace(a='xx') %}{% for i in range(100) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
            "{% set ns = namespace(a=[]) %}{% for i in range(100) %}{% set ns.a = [ns.a] * 10 %}{% endfor %}{{ ns.a | tojson }}",
            "{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a | tojson }}",
            "{% set ns = namespace(a=[]) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ raise_exception('x') }}",
            "{% set ns = namespace(a=[]) %}{% for j in range(100000) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(a=[]) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}{{ raise_exception('x') }}",
        ] {
            let error = render(source).expect_err(source);
            assert!(error.len() < 1000, "{source}");
        }
    }

    #[test]
    fn what_is_nested_in_its_source_is_refused_or_rendered() {
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{'a':", "1", "}"),
            ("not ", "1", ""),
            ("-", "1", ""),
            ("1+", "1", ""),
            ("1 if 1 else ", "1", ""),
        ] {
            for depth in [100, 60_000] {
                let source = format!(
                    "{{{{ {}{middle}{} }}}}",
                    open.repeat(depth),
                    close.repeat(depth)
                );
                let _ = render(&source);
            }
        }
        let blocks = "{% if 1 %}".repeat(10_000) + &"{% endif %}".repeat(10_000);
        let _ = render(&blocks);
        let _ = render(&format!(
            "{{{{ {}1 }}}}",
            "-".repeat(super::MOST_SOURCE - 100)
        ));
        assert!(render(&" ".repeat(super::MOST_SOURCE + 1)).is_err());
    }

    #[test]
    fn what_is_weighed_stays_what_it_was() {
        let json = r#"{"type": "object", "properties": {"city": {"type": "string"}, "a": [1, {"b": null}]}}"#;
        let source = format!("{{% set v = {json} %}}{{{{ v | tojson }}}}");
        assert_eq!(render(&source.replace("null", "none")).unwrap(), json);
        assert_eq!(
            render("{{ [{'b': 1, 'a': 2}] | join }}").unwrap(),
            r#"{"b": 1, "a": 2}"#.replace('"', "'")
        );
    }

    #[test]
    fn a_long_conversation_has_fuel_enough() {
        let source = "{% for m in messages %}{% set c = m['content'].strip() %}{{ '<|' + m['role'] + '|>' }}{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}{{ c.replace('a', 'bb') | trim }}{{ messages | tojson }}{% endfor %}";
        let template =
            ChatTemplate::new(source.to_owned(), String::new(), String::new(), None).unwrap();
        let said = vec![Message::new("user", "a b ".repeat(500_000))];
        assert!(template.render(&said.into()).unwrap().len() > 4_000_000);
        let many: Vec<Message> = (0..200)
            .map(|n| Message::new("user", format!("{n}")))
            .collect();
        assert!(template.render(&many.into()).is_ok());
    }
}
