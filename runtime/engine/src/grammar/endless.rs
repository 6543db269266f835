//! Whether a grammar has any text at all that comes to its end.
//!
//! In: a compiled grammar. Out: the rules that only ever lead back to each other, where these are all that it begins
//! with. Found before a prompt is read for it; llguidance would find it out while it answers, or never.

use std::collections::HashMap;

use llguidance::earley::{CGrammar, CSymIdx};

/// The rules on a way that does not end, each by its name, where no way from `grammar`'s beginning ends.
pub fn rules(grammar: &CGrammar) -> Option<Vec<&str>> {
    let ending = Ending::of(grammar);
    let mut way = Vec::new();
    let mut at = grammar.start();
    while !ending.ends(at) && !way.contains(&at) {
        way.push(at);
        // What does not end has in each rule something that does not, or has no rule.
        let Some(rule) = grammar.rules_of(at).first() else {
            break;
        };
        let (parts, ..) = grammar.rule_rhs(*rule);
        at = *parts.iter().find(|part| !ending.ends(**part))?;
    }
    let begin = way.iter().position(|on_it| *on_it == at)?;
    let names = way[begin..].iter().map(|rule| grammar.sym_name(*rule));
    Some(names.collect())
}

/// Which symbols have a text that ends.
struct Ending(Vec<bool>);

impl Ending {
    fn of(grammar: &CGrammar) -> Self {
        let mut ending = Self(Vec::new());
        // Per symbol, the rules that hold it; per rule, what it belongs to and how many of its symbols are not known to end.
        let mut holders: HashMap<CSymIdx, Vec<usize>> = HashMap::new();
        let mut rules = Vec::new();
        let mut found = Vec::new();
        let mut seen = vec![grammar.start()];
        let mut next = 0;
        while let Some(&symbol) = seen.get(next) {
            next += 1;
            let data = grammar.sym_data(symbol);
            if data.is_terminal || data.is_nullable || !data.cond_nullable.is_empty() {
                ending.mark(symbol, &mut found);
            }
            for rule in grammar.rules_of(symbol) {
                let (parts, ..) = grammar.rule_rhs(*rule);
                for part in parts {
                    let held = holders.entry(*part).or_default();
                    if held.is_empty() && *part != grammar.start() {
                        seen.push(*part);
                    }
                    held.push(rules.len());
                }
                rules.push((symbol, parts.len()));
            }
        }
        while let Some(symbol) = found.pop() {
            for rule in holders.remove(&symbol).unwrap_or_default() {
                let (of, unknown) = &mut rules[rule];
                *unknown -= 1;
                if *unknown == 0 {
                    ending.mark(*of, &mut found);
                }
            }
        }
        ending
    }

    fn mark(&mut self, symbol: CSymIdx, found: &mut Vec<CSymIdx>) {
        let at = symbol.as_index();
        if self.0.len() <= at {
            self.0.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.0[at], true) {
            found.push(symbol);
        }
    }

    fn ends(&self, symbol: CSymIdx) -> bool {
        self.0.get(symbol.as_index()).copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use llguidance::Logger;
    use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
    use serde_json::{Value, json};

    use super::*;

    fn compiled(grammar: TopLevelGrammar) -> Arc<CGrammar> {
        let mut logger = Logger::new(0, 0);
        GrammarInit::Serialized(grammar)
            .to_cgrammar(None, &mut logger, ParserLimits::default(), Vec::new())
            .expect("compiles")
    }

    fn of_schema(schema: &Value) -> Option<String> {
        let grammar = compiled(TopLevelGrammar::from_json_schema(schema.clone()));
        rules(&grammar).map(|names| names.join(" "))
    }

    fn of_lark(lark: &str) -> Option<String> {
        rules(&compiled(TopLevelGrammar::from_lark(lark.to_owned()))).map(|names| names.join(" "))
    }

    #[test]
    fn a_schema_that_only_leads_back_to_itself_is_found() {
        let itself = json!({"$ref": "#"});
        let node = |next: Value, required: Value| json!({"type": "object", "properties": {"next": next}, "required": required});
        for endless in [
            node(itself.clone(), json!(["next"])),
            node(
                json!({"anyOf": [itself, {"type": "array", "items": {"$ref": "#"}, "minItems": 1}]}),
                json!(["next"]),
            ),
            node(
                json!({"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1}),
                json!(["next"]),
            ),
        ] {
            assert!(of_schema(&endless).is_some(), "{endless}");
        }
        let by_another = json!({"$ref": "#/$defs/a", "$defs": {
            "a": node(json!({"$ref": "#/$defs/b"}), json!(["next"])),
            "b": node(json!({"$ref": "#/$defs/a"}), json!(["next"])),
        }});
        assert!(of_schema(&by_another).is_some());
        for sound in [
            node(itself.clone(), json!([])),
            node(
                json!({"anyOf": [itself, {"type": "null"}]}),
                json!(["next"]),
            ),
            node(
                json!({"type": "array", "items": {"$ref": "#"}}),
                json!(["next"]),
            ),
            json!({"type": "object"}),
        ] {
            assert_eq!(of_schema(&sound), None, "{sound}");
        }
    }

    #[test]
    fn rules_of_a_grammar_are_found_by_name() {
        for (lark, rule) in [
            ("start: start", "start"),
            ("start: \"x\" start", "start"),
            ("start: a\na: \"x\" b | b \"y\"\nb: a a", "b"),
            ("start: \"x\" | a\na: \"(\" a \")\"", ""),
            ("start: a\na: \"(\" a \")\" | \"x\"", ""),
            ("start: a?\na: \"(\" a \")\"", ""),
        ] {
            let found = of_lark(lark);
            match rule {
                "" => assert_eq!(found, None, "{lark}"),
                _ => assert!(
                    found.as_ref().is_some_and(|found| found.contains(rule)),
                    "{lark}: {found:?}"
                ),
            }
        }
    }
}
