use std::sync::Arc;

use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

use super::*;

/// Each byte is a token, and 256 is the end.
fn bytes_only() -> TokEnv {
    let words: Vec<Vec<u8>> = (0..=255u8)
        .map(|byte| vec![byte])
        .chain([b"\xff<end>".to_vec()])
        .collect();
    let trie = TokTrie::from(&TokRxInfo::new(257, 256), &words);
    Arc::new(ApproximateTokEnv::new(trie))
}

fn grammar(converted: &Converted) -> TopLevelGrammar {
    match converted {
        Converted::Regex(regex) => TopLevelGrammar::from_regex(regex),
        Converted::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
    }
}

/// Whether a text is of the grammar; whether a longer one could be.
fn of(gbnf: &str, text: &str) -> (bool, bool) {
    let converted = convert(gbnf).expect(gbnf);
    let mut factory = ParserFactory::new_simple(&bytes_only()).unwrap();
    factory.quiet();
    let init = GrammarInit::Serialized(grammar(&converted));
    let parser = factory.create_parser_from_init_default(init);
    let mut matcher = Matcher::new(parser);
    assert_eq!(matcher.get_error(), None, "{converted:?}");
    let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
    if matcher.validate_tokens(&tokens).expect("no limit is hit") < tokens.len() {
        return (false, false);
    }
    matcher.consume_tokens(&tokens).expect("they were valid");
    (matcher.is_accepting().expect("no error"), true)
}

#[track_caller]
fn check(gbnf: &str, of_it: &[&str], not: &[&str]) {
    for text in of_it {
        assert!(
            of(gbnf, text).0,
            "{text:?} is of {gbnf}: {:?}",
            convert(gbnf)
        );
    }
    for text in not {
        assert!(
            !of(gbnf, text).0,
            "{text:?} is not of {gbnf}: {:?}",
            convert(gbnf)
        );
    }
}

#[test]
fn literals_alternates_and_groups() {
    check(
        r#"root ::= "yes" | "no""#,
        &["yes", "no"],
        &["", "y", "yesno"],
    );
    check(
        r#"root ::= ("a" | "b" "c") "d""#,
        &["ad", "bcd"],
        &["bd", "acd"],
    );
    check(r#"root ::= "a" ( | "b")"#, &["a", "ab"], &["b"]);
    check(
        "root ::= \"a\"\n  # not a rule\n\nb ::= \"x\" # unused\n",
        &["a"],
        &["x"],
    );
    check(
        "root ::= (\n  \"a\" # one\n  | \"b\"\n) |\n \"c\"",
        &["a", "b", "c"],
        &["ab"],
    );
    check(
        "\n# first\nother-2 ::= \"x\"\r\nroot ::= other-2 other-2\r\n",
        &["xx"],
        &["x"],
    );
}

#[test]
fn repetitions() {
    check(r#"root ::= "a"*"#, &["", "a", "aaaa"], &["b"]);
    check(
        r#"root ::= "ab"+ "c"?"#,
        &["ab", "ababc"],
        &["", "c", "abb"],
    );
    check(r#"root ::= [a-c]{2}"#, &["ab", "cc"], &["a", "abc"]);
    check(r#"root ::= [a-c]{2,}"#, &["ab", "abcabc"], &["a"]);
    check(
        r#"root ::= ("x" [0-9]) {1, 2} "y""#,
        &["x1y", "x1x2y"],
        &["y", "x1x2x3y"],
    );
    check(
        r#"root ::= ("a" | "b"){0,3} "b""#,
        &["b", "bb", "abab"],
        &["aaaab"],
    );
    check(r#"root ::= "a"?+ "b""#, &["b", "aab"], &["a"]);
}

#[test]
fn classes_escapes_and_any() {
    check("root ::= [^a-c\\n]+", &["xyz", "ü猫"], &["xa", "x\n"]);
    check(r#"root ::= [\]\[\\\-"]+"#, &["[]\\-\""], &["a"]);
    check(r#"root ::= [a-]"#, &["a", "-"], &["b"]);
    check(
        r#"root ::= "\x41\u00e9\U0001F642\t\"/""#,
        &["Aé🙂\t\"/"],
        &["A"],
    );
    check("root ::= . .", &["猫\n", "ab"], &["a", "abc"]);
    check("root ::= [α-ω]", &["λ"], &["l"]);
    // A digit and the hex digits around it, not a range with an escape's letter.
    check(r#"root ::= [\x30-\x39]"#, &["7"], &["x", "a"]);
}

/// llama.cpp's own examples of grammars that need themselves.
const ARITHMETIC: &str = r#"root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*"#;

const JSON: &str = r#"root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}"#;

#[test]
fn grammars_that_need_themselves() {
    assert!(matches!(convert(ARITHMETIC), Ok(Converted::Lark(_))));
    // A space of `ws` may be the end of the line: no repetition takes what the next one needs.
    check(
        ARITHMETIC,
        &["x=y\n", "(a+b )*2= c_1 \n\nx=1\n"],
        &["x=y", "(a=b\n", "=\n"],
    );
    check(
        JSON,
        &[
            "{}",
            r#"{"a": [1, -2.5e3, "x\n\u00e9\"", true], "b": {"c": null}}"#,
            "{\n  \"a\":\"}\" }",
        ],
        &["[]", r#"{"a"}"#, r#"{"a": 01}"#, "{", "{\"a\": \"\n\"}"],
    );
    check(
        r#"root ::= "(" root ")" | [a-z]* "end""#,
        &["end", "((fend))", "endend"],
        &["(end", "en"],
    );
    // By the left, too.
    check(
        r#"root ::= root "+" "a" | "a""#,
        &["a", "a+a+a"],
        &["a+", "+a"],
    );
}

#[test]
fn a_grammar_that_needs_no_rule_twice_is_one_regular_expression() {
    let date = "root ::= year \"-\" two\nyear ::= \"20\" two\ntwo ::= [0-9] [0-9]";
    assert!(matches!(convert(date), Ok(Converted::Regex(_))));
    check(date, &["2026-11"], &["2026-1"]);
    // Written out it would have 2^40 characters.
    let mut doubled = String::from("root ::= r40\nr0 ::= \"a\"\n");
    for i in 1..=40 {
        doubled += &format!("r{i} ::= r{} r{}\n", i - 1, i - 1);
    }
    assert!(matches!(convert(&doubled), Ok(Converted::Lark(_))));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(100), ")".repeat(100));
    for (gbnf, said) in [
        ("", "no rule root"),
        ("a ::= \"x\"", "no rule root"),
        ("root ::= \"x\"\n y\nz = 5", "line 2: ::="),
        ("root ::= \"x", "line 1: it ends too early"),
        ("root ::= [a", "line 1: it ends too early"),
        ("root ::= []", "nothing between"),
        ("root ::= [z-a]", "range"),
        ("root ::= (\"a\"", "line 1: a ) is missing"),
        ("root ::= \"a\")", "line 1: a rule must end here"),
        ("root ::= \"\\q\"", "escape"),
        ("root ::= \"\\x4\"", "2 hexadecimal"),
        ("root ::= \"\\x+4\"", "2 hexadecimal"),
        ("root ::= \"\\uD800\"", "4 hexadecimal"),
        ("root ::= \"\\U00110000\"", "8 hexadecimal"),
        ("root ::= *", "must follow what is to be repeated"),
        ("root ::= \"a\"{2001}", "0 to 2000"),
        ("root ::= \"a\"{99999999999}", "0 to 2000"),
        ("root ::= \"a\"{3,2}", "less than m"),
        ("root ::= \"a\"{3", "a } is missing"),
        ("root ::= \"a\"{}", "number of times"),
        ("root ::= <think> \"a\"", "line 1: references to tokens"),
        (
            "root ::= \"a\"\n\nx ::= !<[1000]>",
            "line 3: references to tokens",
        ),
        ("root ::= there", "the rule there is used and not defined"),
        ("root ::= \"a\" root", "no end"),
        (&deep, "64 parentheses"),
    ] {
        let error = convert(gbnf).expect_err(gbnf).to_string();
        assert!(error.contains(said), "{gbnf:?}: {error}");
    }
}
