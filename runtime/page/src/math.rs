//! Where a Markdown text holds formulas.
//!
//! In: the text, and the ranges in it that are code. Out: the formulas in `\(…\)`, `\[…\]`, `$…$` and
//! `$$…$$`, in order, and those that R1 writes without delimiters: `\boxed{…}` and environments such as
//! `align*`. A formula ends in its own paragraph; an opener without its closer is text, and so are amounts of
//! money and names of shell variables. One pass: it must stay linear in the text.

use std::ops::Range;

/// One formula of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Formula {
    /// The formula with its delimiters, in bytes of the text.
    pub outer: Range<usize>,
    /// The LaTeX between the delimiters; without delimiters, the whole.
    pub inner: Range<usize>,
    /// Whether it stands on a line of its own (`\[…\]`, `$$…$$`, an environment).
    pub display: bool,
}

/// Environments that are formulas also without delimiters around them, with a star or without.
const ENVIRONMENTS: [&str; 6] = [
    "align", "aligned", "equation", "gather", "gathered", "multline",
];

/// Finds the formulas of `text` outside of `code`, which is sorted and does not overlap.
pub(crate) fn find(text: &str, code: &[Range<usize>]) -> Vec<Formula> {
    let mut found = Vec::new();
    let mut start = 0;
    for range in code
        .iter()
        .cloned()
        .chain(std::iter::once(text.len()..text.len()))
    {
        if range.start > start {
            for paragraph in paragraphs(text, start..range.start) {
                find_in_paragraph(text, paragraph, &mut found);
            }
        }
        start = start.max(range.end);
    }
    found
}

/// Cuts a stretch of text at its blank lines. A quoted blank line (`>`) is blank.
fn paragraphs(text: &str, stretch: Range<usize>) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let (mut from, mut at) = (stretch.start, stretch.start);
    for line in text[stretch.clone()].split_inclusive('\n') {
        at += line.len();
        if line.ends_with('\n') && line.bytes().all(|b| b.is_ascii_whitespace() || b == b'>') {
            cuts.push(from..at);
            from = at;
        }
    }
    cuts.push(from..stretch.end);
    cuts
}

fn find_in_paragraph(text: &str, paragraph: Range<usize>, found: &mut Vec<Formula>) {
    let bytes = &text.as_bytes()[..paragraph.end];
    // Once a closer is known to be missing from the rest of the paragraph, nobody looks for it again.
    let (mut no_round, mut no_square, mut no_double) = (false, false, false);
    let (mut no_boxed, mut no_environment) = (false, false);
    let mut at = paragraph.start;
    while at < bytes.len() {
        let formula = match (bytes[at], bytes.get(at + 1)) {
            (b'\\', Some(b'(')) if !no_round => {
                let formula = delimited(bytes, at, b"\\)", false);
                no_round = formula.is_none();
                formula
            }
            (b'\\', Some(b'[')) if !no_square => {
                let formula = delimited(bytes, at, b"\\]", true);
                no_square = formula.is_none();
                formula
            }
            (b'\\', Some(b'b')) if !no_boxed && bytes[at..].starts_with(BOXED) => {
                let formula = boxed(bytes, at);
                no_boxed = formula.is_none();
                formula
            }
            (b'\\', Some(b'b')) if !no_environment => environment_name(&text[at..bytes.len()])
                .and_then(|name| {
                    let formula = environment(&text[..bytes.len()], at, name);
                    no_environment = formula.is_none();
                    formula
                }),
            (b'$', Some(b'$')) if !no_double => {
                let formula = delimited(bytes, at, b"$$", true);
                no_double = formula.is_none();
                formula
            }
            (b'$', _) => dollar(text, paragraph.start, bytes, at),
            _ => None,
        };
        match formula {
            Some(formula) => {
                at = formula.outer.end;
                if !text[formula.inner.clone()].trim().is_empty() {
                    found.push(formula);
                }
            }
            // An escaped character opens nothing, and `$$` without an end is not two openers.
            None if bytes[at] == b'\\' || bytes[at..].starts_with(b"$$") => at += 2,
            None => at += 1,
        }
    }
}

/// A formula whose two-byte opener stands at `open`, up to the first `closer` that is not escaped.
fn delimited(bytes: &[u8], open: usize, closer: &[u8; 2], display: bool) -> Option<Formula> {
    let inner = open + 2;
    let mut at = inner;
    while at + 2 <= bytes.len() {
        if &bytes[at..at + 2] == closer {
            return Some(Formula {
                outer: open..at + 2,
                inner: inner..at,
                display,
            });
        }
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    None
}

const BOXED: &[u8] = br"\boxed{";

/// The `\boxed{…}` at `open`, up to the brace that closes it.
fn boxed(bytes: &[u8], open: usize) -> Option<Formula> {
    let mut at = open + BOXED.len();
    let mut depth = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            // What is escaped is no brace.
            b'\\' => at += 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(bare(open..at, false));
        }
    }
    None
}

/// The name in the `\begin{…}` that `text` begins with, where it is one of [`ENVIRONMENTS`].
fn environment_name(text: &str) -> Option<&str> {
    let text = text.strip_prefix(r"\begin{")?;
    ENVIRONMENTS.iter().find_map(|name| {
        let after = text.strip_prefix(name)?;
        let star = usize::from(after.starts_with('*'));
        after[star..]
            .starts_with('}')
            .then(|| &text[..name.len() + star])
    })
}

/// The environment `name` that begins at `open`, up to its end.
fn environment(text: &str, open: usize, name: &str) -> Option<Formula> {
    let end = format!("\\end{{{name}}}");
    let at = open + text[open..].find(&end)?;
    Some(bare(open..at + end.len(), true))
}

/// A formula without delimiters.
fn bare(outer: Range<usize>, display: bool) -> Formula {
    Formula {
        inner: outer.clone(),
        outer,
        display,
    }
}

/// A formula between single dollars. The next dollar closes it or the first one is money.
fn dollar(text: &str, start: usize, bytes: &[u8], open: usize) -> Option<Formula> {
    let before = text[start..open].chars().next_back();
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let inner = open + 1;
    let mut close = inner;
    while *bytes.get(close)? != b'$' {
        close += if bytes[close] == b'\\' { 2 } else { 1 };
    }
    let latex = &text[inner..close];
    let tight = !latex.is_empty() && latex.trim() == latex;
    let after = &text[close + 1..bytes.len()];
    let closes = !after.starts_with(|c: char| c.is_alphanumeric()) || is_word_ending(after);
    (tight && closes && !after.starts_with('$') && !is_money(latex)).then(|| Formula {
        outer: open..close + 1,
        inner: inner..close,
        display: false,
    })
}

/// Whether a closing dollar may stand before these letters, as in `$n$th`.
fn is_word_ending(after: &str) -> bool {
    let word = after
        .split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or("");
    matches!(word, "s" | "th" | "st" | "nd" | "rd")
}

/// Whether what stands between two dollars is an amount and prose: `5 for one, 10`.
fn is_money(latex: &str) -> bool {
    latex.starts_with(|c: char| c.is_ascii_digit())
        && !latex.contains(['\\', '=', '^', '_', '+'])
        && latex
            .split_whitespace()
            .skip(1)
            .any(|word| word.chars().filter(|c| c.is_alphabetic()).count() >= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formulas(text: &str) -> Vec<(&str, bool)> {
        find(text, &[])
            .into_iter()
            .map(|f| (&text[f.inner], f.display))
            .collect()
    }

    #[test]
    fn all_four_delimiters_are_found() {
        assert_eq!(
            formulas(r"a \(x\) b \[y\] c $z$ d $$w$$ e"),
            [("x", false), ("y", true), ("z", false), ("w", true)]
        );
        assert_eq!(formulas("\\[\nx = 1\n\\]"), [("\nx = 1\n", true)]);
        assert_eq!(
            formulas("the $n$th term, $k$-th, ($x$)."),
            [("n", false), ("k", false), ("x", false)]
        );
    }

    #[test]
    fn boxes_and_environments_need_no_delimiters() {
        assert_eq!(
            formulas(r"**Answer:** \boxed{\frac{1}{2}}, or \boxed{\{1, 2\}}."),
            [
                (r"\boxed{\frac{1}{2}}", false),
                (r"\boxed{\{1, 2\}}", false)
            ]
        );
        for name in [
            "align",
            "align*",
            "equation",
            "equation*",
            "gather",
            "gather*",
        ] {
            let environment =
                format!("\\begin{{{name}}}\na &= b \\\\\nc &= \\boxed{{d}}\n\\end{{{name}}}");
            assert_eq!(
                formulas(&format!("so\n{environment}\nit is")),
                [(&environment[..], true)]
            );
        }
        // Inside of delimiters they are the formula's own.
        assert_eq!(
            formulas(r"\[ \boxed{x} \] $\boxed{y}$"),
            [(r" \boxed{x} ", true), (r"\boxed{y}", false)]
        );
        for text in [
            r"\boxed{x",
            r"\\boxed{x}",
            r"\boxed x",
            r"\begin{itemize} x \end{itemize}",
            r"\begin{align} x \end{align*}",
            "\\begin{align}\nx\n\ny\n\\end{align}",
            r"\begin{align",
        ] {
            assert_eq!(formulas(text), [], "{text}");
        }
    }

    #[test]
    fn money_and_shell_variables_are_text() {
        for text in [
            "costs $5 and $6",
            "between $5-$10",
            "US$5 or US$6",
            "$5 for one, 10$ for two",
            "$HOME/$USER and $PATH",
            r"\$5 and \$6",
            "a $ b $ c",
            "$5",
        ] {
            assert_eq!(formulas(text), [], "{text}");
        }
        assert_eq!(formulas("costs $5, where $x$ is"), [("x", false)]);
    }

    #[test]
    fn an_opener_without_its_closer_is_text() {
        for text in [
            r"\(x",
            r"\[x = \frac{1}",
            "$x + y",
            "$$x\n= y",
            "\\(x\n\ny\\)",
            "$x\n\ny$",
        ] {
            assert_eq!(formulas(text), [], "{text}");
        }
    }

    #[test]
    fn an_escaped_delimiter_neither_opens_nor_closes() {
        assert_eq!(formulas(r"\\(x\)"), []);
        assert_eq!(formulas(r"\(a \\) b\)"), [(r"a \\) b", false)]);
        assert_eq!(formulas(r"$a\$b$"), [(r"a\$b", false)]);
    }

    #[test]
    fn code_holds_no_formula_and_ends_one() {
        let text = "a `$x$` b $y$ `$` z$";
        let code = [text.find('`').unwrap()..9, 14..17];
        let found = find(text, &code);
        assert_eq!(found.len(), 1);
        assert_eq!(&text[found[0].inner.clone()], "y");
    }
}
