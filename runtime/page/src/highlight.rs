//! Colours for code.
//!
//! In: a code block and the name of its language. Out: the same text, escaped, with comments, strings,
//! numbers, keywords and called functions in classed spans. It reads each character once and keeps no
//! grammar: it runs for every picture of an answer that is still being written, beside the model, so it
//! must cost microseconds and must never slow down on odd text. It may colour a rare construct wrongly; it
//! must never change the text.

mod languages;

use languages::{Language, Shape, language};

/// Every class that a span can get.
pub(crate) const CLASSES: &[&str] = &[
    "c-com", "c-str", "c-num", "c-key", "c-lit", "c-fun", "c-tag", "c-add", "c-del",
];

/// Appends `text` with the five signs of HTML escaped.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&#39;",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        out.push_str(escaped);
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
}

/// Appends `code` as HTML. A language that is not known gets no colours.
pub(crate) fn push_highlighted(out: &mut String, name: &str, code: &str) {
    match language(name) {
        None => push_escaped(out, code),
        Some(Language {
            shape: Shape::Diff, ..
        }) => diff(out, code),
        Some(language) => Lexer {
            language,
            code,
            at: 0,
            out,
        }
        .run(),
    }
}

fn span(out: &mut String, class: &str, text: &str) {
    out.push_str("<span class=\"");
    out.push_str(class);
    out.push_str("\">");
    push_escaped(out, text);
    out.push_str("</span>");
}

fn diff(out: &mut String, code: &str) {
    for line in code.split_inclusive('\n') {
        match line.as_bytes()[0] {
            b'+' => span(out, "c-add", line),
            b'-' => span(out, "c-del", line),
            b'@' => span(out, "c-com", line),
            _ => push_escaped(out, line),
        }
    }
}

struct Lexer<'a> {
    language: &'static Language,
    code: &'a str,
    at: usize,
    out: &'a mut String,
}

impl Lexer<'_> {
    fn run(mut self) {
        while let Some(c) = self.code[self.at..].chars().next() {
            let rest = &self.code[self.at..];
            if let Some(length) = self.comment(rest) {
                self.span("c-com", length);
            } else if self.language.shape == Shape::Markup && c == '<' {
                self.tag();
            } else if let Some(length) = self.string(rest) {
                let class = if self.is_key(length) {
                    "c-tag"
                } else {
                    "c-str"
                };
                self.span(class, length);
            } else if c.is_ascii_digit() {
                self.span("c-num", number(rest));
            } else if self.starts_word(c) {
                self.word(rest);
            } else {
                push_escaped(self.out, &rest[..c.len_utf8()]);
                self.at += c.len_utf8();
            }
        }
    }

    fn span(&mut self, class: &str, length: usize) {
        span(self.out, class, &self.code[self.at..self.at + length]);
        self.at += length;
    }

    fn comment(&self, rest: &str) -> Option<usize> {
        if let Some((open, close)) = self.language.block_comment
            && rest.starts_with(open)
        {
            let end = rest[open.len()..]
                .find(close)
                .map(|at| open.len() + at + close.len());
            return Some(end.unwrap_or(rest.len()));
        }
        self.language
            .line_comments
            .iter()
            .find(|sign| rest.starts_with(**sign))?;
        // In a shell, `#` begins a comment only at the start of a word.
        let before = self.code[..self.at].bytes().next_back();
        if rest.starts_with('#') && before.is_some_and(|b| !b.is_ascii_whitespace() && b != b';') {
            return None;
        }
        Some(rest.find('\n').unwrap_or(rest.len()))
    }

    fn string(&self, rest: &str) -> Option<usize> {
        let quote = self
            .language
            .quotes
            .iter()
            .find(|quote| rest.starts_with(**quote))?;
        if *quote == "'" && self.language.shape == Shape::Rust {
            return lifetime_or_char(rest);
        }
        let many_lines = quote.len() > 1 || *quote == "`";
        let bytes = rest.as_bytes();
        let mut at = quote.len();
        while at < bytes.len() {
            match bytes[at] {
                b'\\' => at += 1,
                b'\n' if !many_lines => return Some(at),
                _ if bytes[at..].starts_with(quote.as_bytes()) => return Some(at + quote.len()),
                _ => {}
            }
            at += 1;
        }
        Some(rest.len())
    }

    /// Whether the string of this length names a value, as in JSON.
    fn is_key(&self, length: usize) -> bool {
        self.language.shape == Shape::Data
            && self.code[self.at + length..]
                .trim_start_matches([' ', '\t'])
                .starts_with(':')
    }

    fn starts_word(&self, c: char) -> bool {
        c.is_alphabetic()
            || c == '_'
            || (c == '$' && self.language.shape != Shape::Data)
            || (c == '@' && self.language.shape == Shape::Words)
    }

    fn word(&mut self, rest: &str) {
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let dash = matches!(self.language.shape, Shape::Data | Shape::Markup);
        let more = rest[first..]
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || (dash && c == '-')))
            .unwrap_or(rest.len() - first);
        let length = first + more;
        let word = &rest[..length];
        let after = &rest[length..];
        let is = |words: &[&str]| match self.language.any_case {
            true => words.iter().any(|known| known.eq_ignore_ascii_case(word)),
            false => words.contains(&word),
        };
        let class = if is(self.language.keywords) {
            "c-key"
        } else if is(LITERALS) {
            "c-lit"
        } else if self.language.shape == Shape::Data {
            let key = after
                .trim_start_matches([' ', '\t'])
                .starts_with([':', '=']);
            if key { "c-tag" } else { "" }
        } else if after.starts_with('(')
            || (after.starts_with('!') && self.language.shape == Shape::Rust)
        {
            "c-fun"
        } else {
            ""
        };
        if class.is_empty() {
            push_escaped(self.out, word);
            self.at += length;
        } else {
            self.span(class, length);
        }
    }

    /// `<name`, `</name` or `<!name`; its attributes are read like any other text.
    fn tag(&mut self) {
        let rest = &self.code[self.at..];
        let name = rest[1..]
            .find(|c: char| {
                !(c.is_ascii_alphanumeric() || matches!(c, '/' | '!' | '?' | '-' | ':'))
            })
            .unwrap_or(rest.len() - 1);
        self.span("c-tag", 1 + name);
    }
}

const LITERALS: &[&str] = &[
    "true",
    "false",
    "null",
    "None",
    "True",
    "False",
    "nil",
    "undefined",
    "self",
    "this",
    "NULL",
];

/// The length of a number: digits, base prefixes, exponents, separators and suffixes.
fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        let exponent_sign = matches!(bytes[at], b'+' | b'-')
            && matches!(bytes[at - 1], b'e' | b'E')
            && !rest.starts_with("0x");
        // `1..n` is a range, not a number with two points.
        let point = bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !(bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || point || exponent_sign) {
            break;
        }
        at += 1;
    }
    at
}

/// `'x'` and `'\n'` are characters; `'a` is a lifetime, which gets no colour.
fn lifetime_or_char(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        return rest
            .get(3..)?
            .find('\'')
            .filter(|at| *at < 10)
            .map(|at| at + 4);
    }
    match chars.next()? {
        (at, '\'') => Some(at + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(language: &str, code: &str) -> String {
        let mut out = String::new();
        push_highlighted(&mut out, language, code);
        out
    }

    /// What a reader sees: the tags off, the signs back.
    fn seen(html: &str) -> String {
        let mut out = String::new();
        let mut in_tag = false;
        for c in html.chars() {
            match c {
                '<' => in_tag = true,
                '>' if in_tag => in_tag = false,
                _ if !in_tag => out.push(c),
                _ => {}
            }
        }
        for (escaped, sign) in [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&#39;", "'"),
            ("&amp;", "&"),
        ] {
            out = out.replace(escaped, sign);
        }
        out
    }

    #[test]
    fn words_strings_numbers_and_comments_are_classed() {
        assert_eq!(
            html("python", "def f(x):  # twice\n    return 'a' * 2"),
            "<span class=\"c-key\">def</span> <span class=\"c-fun\">f</span>(x):  \
             <span class=\"c-com\"># twice</span>\n    <span class=\"c-key\">return</span> \
             <span class=\"c-str\">&#39;a&#39;</span> * <span class=\"c-num\">2</span>"
        );
        assert!(
            html("json", "{\"a\": \"b\"}").contains("<span class=\"c-tag\">&quot;a&quot;</span>")
        );
        assert!(html("SQL", "select 1").contains("<span class=\"c-key\">select</span>"));
        assert!(
            html("rust", "fn f<'a>(x: &'a str) -> char { 'x' }").contains("c-str\">&#39;x&#39;")
        );
    }

    #[test]
    fn an_unclosed_string_or_comment_goes_to_the_end() {
        assert_eq!(html("c", "/* a\nb"), "<span class=\"c-com\">/* a\nb</span>");
        assert_eq!(
            html("py", "\"\"\"a\nb"),
            "<span class=\"c-str\">&quot;&quot;&quot;a\nb</span>"
        );
    }

    #[test]
    fn an_unknown_language_is_escaped_and_plain() {
        assert_eq!(html("nonesuch", "if <a>"), "if &lt;a&gt;");
    }

    proptest::proptest! {
        #[test]
        fn the_text_is_never_changed(code in "\\PC*|[-'\"`/*#<>!0-9a-z\\\\\n$@.é]*", which in 0usize..40) {
            let names = ["rust", "python", "c", "js", "bash", "json", "yaml", "toml", "html", "css", "sql", "diff", "go", ""];
            proptest::prop_assert_eq!(seen(&html(names[which % names.len()], &code)), code);
        }
    }
}
