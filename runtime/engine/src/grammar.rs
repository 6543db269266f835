//! What an answer must look like: a JSON schema, a regular expression or a grammar, held by `llguidance`.
//!
//! In: the shape, and the tokens of the answer as they come. Out: which tokens may be next, and which must.
//! Must never let a text of a request into a log.

mod endless;
mod gbnf;
mod refusal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Logger, Matcher, ParserFactory};

use crate::deep::on_stack_of;
use crate::llama::{Model, Token};
use crate::shape::{Shape, spaced};
use gbnf::Converted;

/// Most items that the parser of a grammar may make to find out what may be next. Those of GBNF are read character by
/// character, which takes more; with a vocabulary of 150,000 it is still a fraction of a second.
const GBNF_ITEMS: usize = 5_000_000;

/// Longest schema, in bytes: the tools of a large house take a quarter of it.
const MAX_SCHEMA: usize = 1 << 18;

/// Longest expression or grammar, in bytes. Some take the square of their length in time: at most some seconds, then.
const MAX_GRAMMAR: usize = 1 << 16;

/// Stack on which a shape is compiled: rules and references may lead into each other for as long as the shape is, which took up
/// to a tenth of this. The kernel gives as much of it as is used.
const STACK: usize = 1 << 30;

/// Longest token that may be drawn where a shape holds, in bytes: the tree of all tokens takes none that is much longer.
const MAX_TOKEN: usize = 1000;

/// Longest reason that is told, in characters: some hold the whole grammar.
const MAX_REASON: usize = 400;

/// Why an answer cannot be held to a shape.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct ShapeError(String);

impl ShapeError {
    pub(crate) fn new(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// A shape that is ready to hold one answer.
#[derive(Clone)]
pub struct Grammar(Matcher);

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grammar")
    }
}

/// Makes grammars for one vocabulary. Takes a while to make: a tree of all tokens.
pub struct Grammars(ParserFactory);

impl Grammars {
    /// For `model`'s vocabulary.
    ///
    /// # Errors
    /// There is no room for its tree, or it is none that could be in one.
    pub fn new(model: Arc<Model>) -> Result<Self, ShapeError> {
        deep(|| Self::new_deep(model))
    }

    /// As [`Grammars::new`]; it recurses as deep as the longest token has bytes.
    fn new_deep(model: Arc<Model>) -> Self {
        let vocabulary = Arc::new(Vocabulary::new(model));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(&(vocabulary as _), capabilities(), &slices);
        let mut factory = factory.expect("the general slices are sound");
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            // An error would hold the grammar and the answer so far.
            verbose_errors: false,
            ..ParserLimits::default()
        };
        Self(factory)
    }

    /// Compiles `shape`.
    ///
    /// # Errors
    /// Something in it is not supported, or wrong, or so much that it would take too long.
    pub fn compile(&self, shape: &Shape) -> Result<Grammar, ShapeError> {
        let (bytes, most) = match shape {
            Shape::JsonSchema(schema) => (schema.to_string().len(), MAX_SCHEMA),
            Shape::Regex(text) | Shape::Lark(text) | Shape::Gbnf(text) => (text.len(), MAX_GRAMMAR),
        };
        if bytes > most {
            return Err(ShapeError(format!(
                "it has {bytes} bytes, and may have {most}: say less"
            )));
        }
        deep(|| self.compile_deep(shape))?
    }

    /// As [`Grammars::compile`]; it may recurse as deep as the shape is long.
    fn compile_deep(&self, shape: &Shape) -> Result<Grammar, ShapeError> {
        let mut limits = self.0.limits().clone();
        let grammar = match shape {
            Shape::JsonSchema(schema) => TopLevelGrammar::from_json_schema(spaced(schema.clone())),
            Shape::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Shape::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
            Shape::Gbnf(gbnf) => {
                limits.step_max_items = GBNF_ITEMS;
                match gbnf::convert(gbnf)? {
                    Converted::Regex(regex) => TopLevelGrammar::from_regex(&regex),
                    Converted::Lark(lark) => TopLevelGrammar::from_lark(lark),
                }
            }
        };
        let init = llguidance::api::GrammarInit::Serialized(grammar);
        let logger = Logger::new(0, 0);
        let parser = self
            .0
            .create_parser_from_init_ext(init, logger, capabilities(), limits)
            .map_err(|error| {
                let reason = refusal::of_error(&error.to_string());
                ShapeError(reason.chars().take(MAX_REASON).collect())
            })?;
        if let Some(rules) = endless::rules(parser.parser.grammar()) {
            return Err(ShapeError(refusal::of_endless(shape, &rules)));
        }
        let mut grammar = Grammar(Matcher::new(Ok(parser)));
        // What is stuck at its beginning had better say so before a prompt is read.
        match grammar.allowed() {
            Next::Broken(reason) => Err(ShapeError(reason)),
            Next::End | Next::OneOf(_) => Ok(grammar),
        }
    }
}

/// Has `work` done that may recurse for long, and may panic.
fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, ShapeError> {
    // llguidance catches its own panics once a shape is compiled, not before.
    let caught = on_stack_of(STACK, || catch_unwind(AssertUnwindSafe(work)));
    match caught {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(ShapeError::new("it cannot be compiled")),
        Err(error) => Err(ShapeError(format!("no room to compile it: {error}"))),
    }
}

fn capabilities() -> InferenceCapabilities {
    InferenceCapabilities {
        ff_tokens: true,
        ..InferenceCapabilities::default()
    }
}

/// The beginning of some JSON with the white space that [`spaced`] schemas have it.
fn respaced(json: &str) -> String {
    let mut respaced = String::with_capacity(json.len());
    let (mut quoted, mut escaped, mut white) = (false, false, false);
    for c in json.chars() {
        if !quoted && c.is_whitespace() {
            white = true;
            continue;
        }
        if !quoted && respaced.ends_with([',', ':']) {
            respaced.push(' ');
        }
        respaced.push(c);
        white = false;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
    }
    if white && respaced.ends_with([',', ':']) {
        respaced.push(' ');
    }
    respaced
}

/// What may come next.
pub enum Next {
    /// The answer is complete: nothing may.
    End,
    /// One of these tokens: bit `t` of the words.
    OneOf(Vec<u32>),
    /// The grammar has given up, with its reason.
    Broken(String),
}

impl Grammar {
    /// Whether `token` may come next. `ends` when it ends an answer.
    pub fn allows(&mut self, token: Token, ends: bool) -> bool {
        if ends {
            return self.0.is_accepting().unwrap_or(false);
        }
        self.0
            .validate_tokens(&[token as TokenId])
            .is_ok_and(|n| n == 1)
    }

    /// All that may come next.
    pub fn allowed(&mut self) -> Next {
        if self.0.is_stopped() {
            return match self.0.stop_reason().is_ok() {
                true => Next::End,
                false => Next::Broken(self.broken()),
            };
        }
        match self.0.compute_mask() {
            Ok(mask) => Next::OneOf(mask.as_slice().to_vec()),
            Err(_) if self.0.stop_reason().is_ok() => Next::End,
            Err(_) => Next::Broken(self.broken()),
        }
    }

    fn broken(&self) -> String {
        refusal::of_stuck(&self.0.get_error().unwrap_or_default())
    }

    /// Takes text that has come before it began to hold, as tokens that need not be those which were drawn.
    ///
    /// It is the beginning of JSON, and may have white space that schemas do not allow.
    pub fn take_text(&mut self, text: &str, model: &Model) {
        for token in model.tokenize_plain(&respaced(text), false) {
            self.take(token);
        }
    }

    /// Takes a token that it allows.
    pub fn take(&mut self, token: Token) {
        // Should it fail, it stands still in an error, which `allowed` tells.
        let _ = self.0.consume_token(token as TokenId);
    }

    /// Takes the tokens that must come next, if there is no choice, and gives them.
    pub fn take_forced(&mut self) -> Vec<Token> {
        let forced = self.0.consume_ff_tokens();
        forced.into_iter().map(|token| token as Token).collect()
    }

    /// Whether nothing may come any more.
    pub fn ended(&self) -> bool {
        self.0.is_stopped() && self.0.stop_reason().is_ok()
    }
}

/// A model's vocabulary as llguidance sees it.
struct Vocabulary {
    model: Arc<Model>,
    trie: TokTrie,
}

impl Vocabulary {
    fn new(model: Arc<Model>) -> Self {
        let n = model.n_vocab();
        let words: Vec<Vec<u8>> = (0..n)
            .map(|token| {
                let text = model.piece(token, false);
                if text.len() > MAX_TOKEN {
                    // It is then no token at all.
                    return Vec::new();
                }
                if !text.is_empty() && !model.is_control(token) {
                    return text;
                }
                let mut special = vec![TokTrie::SPECIAL_TOKEN_MARKER];
                special.extend(model.piece(token, true));
                special.truncate(MAX_TOKEN);
                special
            })
            .collect();
        let ends: Vec<TokenId> = (0..n)
            .filter(|token| model.is_end_of_generation(*token))
            .map(|token| token as TokenId)
            .collect();
        let eos = ends.first().copied().unwrap_or(0);
        let mut trie = TokTrie::from(&TokRxInfo::new(n as u32, eos), &words);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        Self { model, trie }
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let tokens = self.model.tokenize_plain(text, false);
            tokens.into_iter().map(|token| token as TokenId).collect()
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        // Others put a space before a text, so that what stands alone is not what stands in the middle.
        self.model.is_byte_level()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::llama::vocabulary::vocabulary;

    #[test]
    fn tokens_of_any_length_are_no_harm_and_long_ones_are_never_drawn() {
        let longest = ["a".repeat(1000), "a".repeat(1001), "a".repeat(60_000)];
        let branches = (1..60).map(|i| format!("{}b", "a".repeat(i * 1000)));
        let others: Vec<String> = longest.into_iter().chain(branches).collect();
        let model = Arc::new(vocabulary("gpt-2", &others));
        let grammars = Grammars::new(model).unwrap();
        let mut grammar = grammars.compile(&Shape::Regex("a+".to_owned())).unwrap();
        let Next::OneOf(words) = grammar.allowed() else {
            panic!("nothing may come");
        };
        let may_come = |token: usize| words[token / 32] >> (token % 32) & 1 == 1;
        assert!(may_come(usize::from(b'a')));
        assert_eq!([259, 260, 261].map(may_come), [true, false, false]);
    }

    #[test]
    fn a_mail_address_does_not_go_on_for_ever() {
        let grammars = Grammars::new(Arc::new(vocabulary("gpt-2", &[]))).unwrap();
        let email = json!({"type": "string", "format": "email"});
        let both = json!({"type": "string", "format": "email", "allOf": [{"pattern": "a$"}]});
        for (schema, begins) in [
            (email.clone(), "\""),
            (json!({"format": "email"}), "\""),
            (both, "\""),
            (json!({"type": "array", "items": email}), "[\""),
            (
                json!({"type": "object", "properties": {"format": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"anyOf": [email]}}}),
                "{\"format\": \"",
            ),
        ] {
            // Whether these bytes may come, one after the other.
            let may_come = |text: &str| {
                let mut grammar = grammars
                    .compile(&Shape::JsonSchema(schema.clone()))
                    .unwrap();
                text.bytes().map(Token::from).all(|byte| {
                    let allowed = grammar.allows(byte, false);
                    grammar.take(byte);
                    allowed
                })
            };
            let [first, label] = ["a".repeat(64), "a".repeat(63)];
            assert!(may_come(&format!("{begins}{first}@{label}.{label}.a\"")));
            assert!(!may_come(&format!("{begins}{first}a")), "{schema}");
            assert!(!may_come(&format!("{begins}a@{label}a")), "{schema}");
            let parts = format!("{begins}a@a{}", ".a".repeat(7));
            assert!(may_come(&parts) && !may_come(&(parts + ".a")), "{schema}");
        }
        // What only looks like one is left alone.
        let named = json!({"const": {"format": "email"}});
        assert_eq!(spaced(named.clone())["const"], named["const"]);
    }

    #[test]
    fn json_that_has_begun_is_spaced_as_schemas_are() {
        for (json, expected) in [
            ("{\n  \"name\":\"f\"", r#"{"name": "f""#),
            (
                r#"{"name" : "a, b:c \\\" , d" , "#,
                r#"{"name": "a, b:c \\\" , d", "#,
            ),
            ("\n{\"name\":", "{\"name\":"),
            ("{\"a\": \n", "{\"a\": "),
            ("{ ", "{"),
            (r#"{"a":"x:"#, r#"{"a": "x:"#),
        ] {
            assert_eq!(respaced(json), expected, "{json}");
        }
    }
}
