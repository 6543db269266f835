//! Reads GBNF as llama.cpp does.
//!
//! In: text of a request. Out: rules by number. Every error names the line.

use std::collections::HashMap;
use std::fmt::Write;

use super::super::ShapeError;

/// Most times that something may be repeated by number, as in llama.cpp.
const MAX_TIMES: u32 = 2000;

/// Parentheses inside of each other, and signs of repetition behind each other.
const MAX_DEPTH: usize = 64;

/// A part of a rule.
#[derive(Debug, PartialEq)]
pub enum Node {
    /// One character, as a class of a regular expression.
    Class(String),
    Rule(usize),
    Sequence(Vec<Node>),
    Alternates(Vec<Node>),
    /// At least so often, and at most.
    Repeat(Box<Node>, u32, Option<u32>),
}

/// All rules.
#[derive(Debug)]
pub struct Rules {
    pub nodes: Vec<Node>,
    pub root: usize,
}

type Result<T> = std::result::Result<T, ShapeError>;

/// Reads all rules.
pub fn rules(gbnf: &str) -> Result<Rules> {
    let mut parser = Parser {
        text: gbnf,
        at: 0,
        depth: 0,
        names: HashMap::new(),
    };
    let mut bodies: HashMap<usize, Node> = HashMap::new();
    parser.space(true);
    while parser.peek().is_some() {
        let name = parser.name()?;
        parser.space(false);
        if !parser.take("::=") {
            return Err(parser.wrong("::= must follow the name of a rule"));
        }
        parser.space(true);
        let rule = parser.number_of(name);
        let body = parser.alternates(false)?;
        if !matches!(parser.peek(), None | Some('\n' | '\r')) {
            return Err(parser.wrong("a rule must end here"));
        }
        // The last one of a name holds, as in llama.cpp.
        bodies.insert(rule, body);
        parser.space(true);
    }
    let Some(root) = parser.names.get("root").copied() else {
        return Err(ShapeError::new(
            "it has no rule root, with which it would begin",
        ));
    };
    let mut named: Vec<(&str, usize)> = parser.names.iter().map(|(n, i)| (*n, *i)).collect();
    named.sort_by_key(|(_, number)| *number);
    let nodes = named.into_iter().map(|(name, number)| {
        let missing = || ShapeError::new(&format!("the rule {name} is used and not defined"));
        bodies.remove(&number).ok_or_else(missing)
    });
    let nodes = nodes.collect::<Result<_>>()?;
    Ok(Rules { nodes, root })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Numbers of the rules that were named so far.
    names: HashMap<&'a str, usize>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Result<char> {
        let next = self.peek().ok_or_else(|| self.wrong("it ends too early"))?;
        self.at += next.len_utf8();
        Ok(next)
    }

    fn take(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        self.at += if found { what.len() } else { 0 };
        found
    }

    fn wrong(&self, what: &str) -> ShapeError {
        let line = self.text[..self.at].matches('\n').count() + 1;
        ShapeError::new(&format!("line {line}: {what}"))
    }

    /// Skips white space and comments; ends of lines only where a rule goes on behind them.
    fn space(&mut self, lines: bool) {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if lines => self.at += 1,
                '#' => {
                    let rest = self.rest();
                    self.at += rest.find(['\r', '\n']).unwrap_or(rest.len());
                }
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Result<&'a str> {
        let rest = self.rest();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name = &rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())];
        self.at += name.len();
        match name.is_empty() {
            true => Err(self.wrong("the name of a rule is missing: letters, digits and -")),
            false => Ok(name),
        }
    }

    fn number_of(&mut self, name: &'a str) -> usize {
        let next = self.names.len();
        *self.names.entry(name).or_insert(next)
    }

    fn alternates(&mut self, nested: bool) -> Result<Node> {
        let mut alternates = vec![self.sequence(nested)?];
        while self.take("|") {
            self.space(true);
            alternates.push(self.sequence(nested)?);
        }
        match alternates.len() {
            1 => Ok(alternates.remove(0)),
            _ => Ok(Node::Alternates(alternates)),
        }
    }

    fn sequence(&mut self, nested: bool) -> Result<Node> {
        let mut items: Vec<Node> = Vec::new();
        let mut repeats = 0;
        loop {
            let item = match self.peek() {
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.at += 1;
                    Node::Class("[\\x{0}-\\x{10ffff}]".to_owned())
                }
                Some('(') => self.group()?,
                Some('<' | '!') => {
                    let what =
                        "references to tokens (<..>) are not supported: write their text in quotes";
                    return Err(self.wrong(what));
                }
                Some(c) if c.is_ascii_alphanumeric() || c == '-' => {
                    let name = self.name()?;
                    Node::Rule(self.number_of(name))
                }
                Some('*' | '+' | '?' | '{') => {
                    repeats += 1;
                    if repeats > MAX_DEPTH {
                        return Err(self.wrong(&format!(
                            "there may be {MAX_DEPTH} signs of repetition behind each other"
                        )));
                    }
                    let (least, most) = self.times(nested)?;
                    let Some(item) = items.pop() else {
                        return Err(self.wrong("*, +, ? or { must follow what is to be repeated"));
                    };
                    Node::Repeat(Box::new(item), least, most)
                }
                _ => return Ok(Node::Sequence(items)),
            };
            if !matches!(item, Node::Repeat(..)) {
                repeats = 0;
            }
            items.push(item);
            self.space(nested);
        }
    }

    fn group(&mut self) -> Result<Node> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.wrong(&format!(
                "there may be {MAX_DEPTH} parentheses inside of each other"
            )));
        }
        self.space(true);
        let inside = self.alternates(true)?;
        if !self.take(")") {
            return Err(self.wrong("a ) is missing"));
        }
        self.depth -= 1;
        Ok(inside)
    }

    fn literal(&mut self) -> Result<Node> {
        self.at += 1;
        let mut characters = Vec::new();
        while !self.take("\"") {
            let one = self.character()?;
            characters.push(Node::Class(format!("[\\x{{{:x}}}]", u32::from(one))));
        }
        Ok(Node::Sequence(characters))
    }

    fn class(&mut self) -> Result<Node> {
        self.at += 1;
        let mut class = String::from("[");
        if self.take("^") {
            class.push('^');
        }
        let empty = class.len();
        while !self.take("]") {
            let first = self.character()?;
            let mut last = first;
            if self.rest().starts_with('-') && !self.rest().starts_with("-]") {
                self.at += 1;
                last = self.character()?;
            }
            if last < first {
                return Err(self.wrong("a range must go from a lower character to a higher one"));
            }
            let (first, last) = (u32::from(first), u32::from(last));
            write!(class, "\\x{{{first:x}}}-\\x{{{last:x}}}").expect("a String takes all");
        }
        if class.len() == empty {
            return Err(self.wrong("there is nothing between [ and ]"));
        }
        class.push(']');
        Ok(Node::Class(class))
    }

    /// A character, or what stands for one behind a backslash.
    fn character(&mut self) -> Result<char> {
        let digits = match self.next()? {
            '\\' => match self.next()? {
                't' => return Ok('\t'),
                'r' => return Ok('\r'),
                'n' => return Ok('\n'),
                same @ ('\\' | '"' | '[' | ']' | '-') => return Ok(same),
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => return Err(self.wrong(
                    "there is no such escape: use \\t \\r \\n \\\\ \\\" \\[ \\] \\- \\x \\u \\U",
                )),
            },
            other => return Ok(other),
        };
        let hex = self.rest().get(..digits).unwrap_or_default();
        let number = u32::from_str_radix(hex, 16)
            .ok()
            .filter(|_| !hex.starts_with('+'));
        let Some(character) = number.and_then(char::from_u32) else {
            return Err(self.wrong(&format!(
                "{digits} hexadecimal digits of a character must follow"
            )));
        };
        self.at += digits;
        Ok(character)
    }

    fn times(&mut self, nested: bool) -> Result<(u32, Option<u32>)> {
        match self.next()? {
            '*' => return Ok((0, None)),
            '+' => return Ok((1, None)),
            '?' => return Ok((0, Some(1))),
            _ => self.space(nested),
        }
        let least = self.count()?;
        self.space(nested);
        let most = match self.take(",") {
            false => Some(least),
            true => {
                self.space(nested);
                let given = self.peek().is_some_and(|c| c.is_ascii_digit());
                given.then(|| self.count()).transpose()?
            }
        };
        self.space(nested);
        if !self.take("}") {
            return Err(self.wrong("a } is missing, after {m}, {m,} or {m,n}"));
        }
        if most.is_some_and(|most| most < least) {
            return Err(self.wrong("in {m,n} n must not be less than m"));
        }
        Ok((least, most))
    }

    fn count(&mut self) -> Result<u32> {
        let rest = self.rest();
        let digits = &rest[..rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len())];
        self.at += digits.len();
        match digits.parse() {
            Ok(n) if n <= MAX_TIMES => Ok(n),
            _ => Err(self.wrong(&format!(
                "a number of times from 0 to {MAX_TIMES} must follow"
            ))),
        }
    }
}
