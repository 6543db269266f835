//! GBNF, the notation of llama.cpp's grammars, for llguidance: <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>.
//!
//! In: rules, of which `root` is the whole answer. Out: one regular expression where no rule needs itself, else Lark
//! with a terminal for each character: llguidance takes a longer terminal to go on for as long as it can, which GBNF
//! does not say. References to tokens are refused, as their numbers and names mean something else in each model.

mod parse;

use std::fmt::Write;

use super::ShapeError;
use parse::{Node, Rules};

/// Longest regular expression that is made, in bytes: rules that are used often are written out each time.
const MAX_REGEX: usize = 1 << 16;

/// What a grammar has become.
#[derive(Debug, PartialEq)]
pub enum Converted {
    /// In Rust's syntax.
    Regex(String),
    /// In llguidance's kind of Lark.
    Lark(String),
}

/// Reads a grammar and brings it into a form that llguidance knows.
///
/// # Errors
/// The line that is wrong or not supported, a rule that is nowhere, or that no text is of this grammar.
pub fn convert(gbnf: &str) -> Result<Converted, ShapeError> {
    let rules = parse::rules(gbnf)?;
    if !rules.can_end() {
        return Err(ShapeError::new(
            "its root has no end: each text of it would go on for ever",
        ));
    }
    let mut regex = String::new();
    let mut within = vec![false; rules.nodes.len()];
    Ok(
        match rules.regex(&rules.nodes[rules.root], &mut within, &mut regex) {
            Some(()) => Converted::Regex(regex),
            None => Converted::Lark(rules.lark()),
        },
    )
}

impl Rules {
    /// Whether a text of the root can come to its end.
    fn can_end(&self) -> bool {
        let mut ends = vec![false; self.nodes.len()];
        loop {
            let known = ends.clone();
            for (i, node) in self.nodes.iter().enumerate() {
                ends[i] = known[i] || node.can_end(&known);
            }
            if ends == known {
                return ends[self.root];
            }
        }
    }

    /// Writes a node as a regular expression. None when a rule needs itself, or when it gets too long.
    fn regex(&self, node: &Node, within: &mut [bool], out: &mut String) -> Option<()> {
        match node {
            Node::Class(class) => out.push_str(class),
            Node::Rule(rule) => {
                if std::mem::replace(&mut within[*rule], true) {
                    return None;
                }
                self.regex(&self.nodes[*rule], within, out)?;
                within[*rule] = false;
            }
            Node::Sequence(nodes) => {
                out.push_str("(?:");
                for node in nodes {
                    self.regex(node, within, out)?;
                }
                out.push(')');
            }
            Node::Alternates(nodes) => {
                out.push_str("(?:");
                for (i, node) in nodes.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "|" });
                    self.regex(node, within, out)?;
                }
                out.push(')');
            }
            Node::Repeat(node, least, most) => {
                out.push_str("(?:");
                self.regex(node, within, out)?;
                out.push(')');
                times(*least, *most, out);
            }
        }
        (out.len() <= MAX_REGEX).then_some(())
    }

    /// All rules as Lark. What stands in parentheses becomes a rule of its own: llguidance bounds nesting.
    fn lark(&self) -> String {
        let mut lark = Lark {
            text: format!("start: r{}\n", self.root),
            inner: 0,
        };
        for (i, node) in self.nodes.iter().enumerate() {
            let body = lark.expansions(node);
            writeln!(lark.text, "r{i}: {body}").expect("a String takes all");
        }
        lark.text
    }
}

impl Node {
    fn can_end(&self, rules: &[bool]) -> bool {
        match self {
            Self::Class(_) => true,
            Self::Rule(rule) => rules[*rule],
            Self::Sequence(nodes) => nodes.iter().all(|node| node.can_end(rules)),
            Self::Alternates(nodes) => nodes.iter().any(|node| node.can_end(rules)),
            Self::Repeat(node, least, _) => *least == 0 || node.can_end(rules),
        }
    }
}

/// Lark in the making.
struct Lark {
    text: String,
    /// Rules that were made for what stands inside others.
    inner: usize,
}

impl Lark {
    /// What may stand behind the colon of a rule.
    fn expansions(&mut self, node: &Node) -> String {
        match node {
            Node::Alternates(nodes) => {
                let nodes = nodes.iter().map(|node| self.sequence(node));
                nodes.collect::<Vec<_>>().join(" | ")
            }
            node => self.sequence(node),
        }
    }

    fn sequence(&mut self, node: &Node) -> String {
        match node {
            Node::Sequence(nodes) if !nodes.is_empty() => {
                let nodes = nodes.iter().map(|node| self.item(node));
                nodes.collect::<Vec<_>>().join(" ")
            }
            node => self.item(node),
        }
    }

    fn item(&mut self, node: &Node) -> String {
        match node {
            Node::Class(class) => format!("/{class}/"),
            Node::Rule(rule) => format!("r{rule}"),
            Node::Sequence(nodes) if nodes.is_empty() => "\"\"".to_owned(),
            Node::Repeat(node, least, most) => {
                let mut item = match **node {
                    Node::Class(_) | Node::Rule(_) => self.item(node),
                    _ => self.rule(node),
                };
                times(*least, *most, &mut item);
                item
            }
            Node::Sequence(_) | Node::Alternates(_) => self.rule(node),
        }
    }

    /// The name of a rule for a node of its own.
    fn rule(&mut self, node: &Node) -> String {
        self.inner += 1;
        let name = format!("i{}", self.inner);
        let body = self.expansions(node);
        writeln!(self.text, "{name}: {body}").expect("a String takes all");
        name
    }
}

/// Writes how often something comes.
fn times(least: u32, most: Option<u32>, out: &mut String) {
    let text = match (least, most) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (least, None) => format!("{{{least},}}"),
        (least, Some(most)) => format!("{{{least},{most}}}"),
    };
    out.push_str(&text);
}

#[cfg(test)]
mod tests;
