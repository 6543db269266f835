//! LaTeX to MathML Core.
//!
//! In: the inside of one formula. Out: a `<math>` element, or nothing where the LaTeX is broken, so that
//! the caller can show its source. It must never write a `style` attribute: the page's
//! Content-Security-Policy forbids them, so each style becomes a class of `style.css`.

use std::borrow::Cow;
use std::sync::LazyLock;

use math_core::{LatexToMathML, MathCoreConfig, MathDisplay};

/// Bytes. Longer formulas show their source: no person reads one of this size.
const MAX_SOURCE: usize = 4096;

/// Groups, environments and `\left`s within each other. The parser recurses for each.
const MAX_NESTING: usize = 40;

/// Commands that models write and math-core does not know.
const MACROS: &[(&str, &str)] = &[
    (
        "boxed",
        r"\begin{array}{|c|}\hline\displaystyle{#1}\end{array}",
    ),
    ("fbox", r"\begin{array}{|c|}\hline\text{#1}\end{array}"),
    ("substack", r"\begin{matrix}#1\end{matrix}"),
    ("large", ""),
    ("Large", ""),
    ("LARGE", ""),
    ("small", ""),
];

static CONVERTER: LazyLock<LatexToMathML> = LazyLock::new(|| {
    let macros = MACROS
        .iter()
        .map(|(name, body)| (name.to_string(), body.to_string()))
        .collect();
    LatexToMathML::new(MathCoreConfig {
        macros,
        ..MathCoreConfig::default()
    })
    .expect("the macros above are valid, as the tests show")
});

/// The formula as MathML, or `None` where it is broken, too long, or uses what is not known.
pub(crate) fn to_mathml(latex: &str, display: bool) -> Option<String> {
    if latex.len() > MAX_SOURCE || nesting(latex) > MAX_NESTING {
        return None;
    }
    let mode = if display {
        MathDisplay::Block
    } else {
        MathDisplay::Inline
    };
    let latex = numbered_by_tags(latex, display);
    let converted = CONVERTER.convert_with_local_state(&latex, mode).ok()?;
    Some(styles_to_classes(&converted.mathml))
}

/// The formula with the numbers that its `\tag`s give and no others: each formula would count from 1.
///
/// math-core takes a `\tag` only inside of an environment, and knows no `multline*`.
fn numbered_by_tags(latex: &str, display: bool) -> Cow<'_, str> {
    const STARRED: [(&str, &str); 6] = [
        ("{align}", "{align*}"),
        ("{equation}", "{equation*}"),
        ("{gather}", "{gather*}"),
        ("{multline}", "{gather*}"),
        ("{multline*}", "{gather*}"),
        ("{split}", "{aligned}"),
    ];
    let mut latex = Cow::Borrowed(latex);
    for (numbered, starred) in STARRED {
        for command in [r"\begin", r"\end"] {
            let from = format!("{command}{numbered}");
            if latex.contains(&from) {
                latex = Cow::Owned(latex.replace(&from, &format!("{command}{starred}")));
            }
        }
    }
    let has_place = ["align*", "equation*", "gather*"]
        .iter()
        .any(|name| latex.contains(&format!("\\begin{{{name}}}")));
    if display && latex.contains(r"\tag{") && !has_place {
        latex = Cow::Owned(format!(r"\begin{{equation*}}{latex}\end{{equation*}}"));
    }
    latex
}

/// How deep the groups, environments and `\left`s of a formula nest.
fn nesting(latex: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for (at, byte) in latex.bytes().enumerate() {
        // `\leftarrow` opens nothing.
        let is = |command: &str| {
            latex.as_bytes()[at..]
                .strip_prefix(command.as_bytes())
                .is_some_and(|after| !after.first().is_some_and(u8::is_ascii_alphabetic))
        };
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'\\' if is(r"\begin") || is(r"\left") => depth += 1,
            b'\\' if is(r"\end") || is(r"\right") => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Replaces each `style="…"` that math-core writes by the classes that `style.css` has for it.
///
/// Formula text cannot hold the marker: math-core escapes its quotes.
fn styles_to_classes(mathml: &str) -> String {
    const MARKER: &str = " style=\"";
    let mut out = String::with_capacity(mathml.len());
    let mut rest = mathml;
    while let Some(at) = rest.find(MARKER) {
        let style = &rest[at + MARKER.len()..];
        let Some(end) = style.find('"') else { break };
        out.push_str(&rest[..at]);
        let classes: Vec<&str> = style[..end].split(';').filter_map(class_of).collect();
        if !classes.is_empty() {
            out.push_str(" class=\"");
            out.push_str(&classes.join(" "));
            out.push('"');
        }
        rest = &style[end + 1..];
    }
    out.push_str(rest);
    out
}

/// The class for one CSS declaration, or `None` for what the page can do without (colours, say).
fn class_of(declaration: &str) -> Option<&'static str> {
    let (property, value) = declaration.split_once(':')?;
    let value = value.trim();
    Some(match (property.trim(), value) {
        ("text-align", "left") => "m-left",
        ("text-align", "right") => "m-right",
        ("padding-left", "0") => "m-pl0",
        ("padding-right", "0") => "m-pr0",
        ("padding-left", "1em") => "m-pl1",
        ("border-left", _) => "m-bl",
        ("border-right", _) => "m-br",
        ("border-top", _) => "m-bt",
        ("width", "100%") => "m-full",
        ("width", "50%") => "m-half",
        ("margin-left", _) if value.starts_with('-') => "m-thin",
        ("font-variant-caps", _) => "m-caps",
        _ => return None,
    })
}

/// Every class that [`to_mathml`] can write.
pub(crate) const CLASSES: &[&str] = &[
    "m-left",
    "m-right",
    "m-pl0",
    "m-pr0",
    "m-pl1",
    "m-bl",
    "m-br",
    "m-bt",
    "m-full",
    "m-half",
    "m-thin",
    "m-caps",
    "menclose-updiagonalstrike",
    "menclose-downdiagonalstrike",
    "menclose-horizontalstrike",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reasoning_models_write_becomes_mathml() {
        for latex in [
            r"\boxed{42}",
            r"\boxed{\dfrac{1}{2}}",
            r"\frac{-b \pm \sqrt{b^2-4ac}}{2a}",
            r"\begin{aligned} a&=b+c\\ &=d \end{aligned}",
            r"\begin{cases} x & x>0 \\ -x & \text{otherwise}\end{cases}",
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            r"\sum_{\substack{i\\j}} \binom{n}{k} \equiv 1 \pmod{7}",
            r"\text{Area} = \pi r^2, \quad \mathbb{R}^n, \lfloor x \rfloor, 5\%, \$3",
        ] {
            let mathml = to_mathml(latex, true).unwrap_or_else(|| panic!("{latex}"));
            assert!(mathml.starts_with("<math display=\"block\">"), "{mathml}");
            assert!(!mathml.contains(" style=\""), "{mathml}");
        }
    }

    #[test]
    fn equations_have_the_numbers_that_their_tags_give() {
        for latex in [
            r"x \tag{7}",
            r"\begin{aligned} a&=b \\ &=c \end{aligned} \tag{7}",
            r"\begin{align} a&=b \tag{7} \\ &=c \end{align}",
            r"\begin{equation} \begin{split} a&=b \\ &=c \end{split} \tag{7} \end{equation}",
            r"\begin{multline} a \tag{7} \end{multline}",
        ] {
            let mathml = to_mathml(latex, true).unwrap_or_else(|| panic!("{latex}"));
            assert_eq!(mathml.matches("(7)").count(), 1, "{mathml}");
            assert_eq!(mathml.matches('(').count(), 1, "{mathml}");
            assert!(!mathml.contains(" style=\""), "{mathml}");
        }
        for name in ["align", "align*", "equation", "gather", "multline*"] {
            let latex = format!(r"\begin{{{name}}} a=b \end{{{name}}}");
            let mathml = to_mathml(&latex, true).unwrap_or_else(|| panic!("{latex}"));
            assert!(!mathml.contains('('), "{mathml}");
        }
    }

    #[test]
    fn every_style_has_its_class() {
        let aligned = to_mathml(r"\begin{aligned} a&=b \end{aligned}", true).unwrap();
        assert!(
            aligned.contains("<mtd class=\"m-right m-pr0\">"),
            "{aligned}"
        );
        let boxed = to_mathml(r"\boxed{1}", false).unwrap();
        assert!(boxed.contains("class=\"m-bl m-bt\""), "{boxed}");
    }

    #[test]
    fn broken_latex_is_nothing() {
        for latex in [
            r"\frac{",
            r"\nosuchcommand",
            "x_",
            r"\begin{aligned} a",
            r"\href{a}{b}",
        ] {
            assert_eq!(to_mathml(latex, false), None, "{latex}");
        }
    }

    #[test]
    fn the_deepest_nesting_that_is_taken_fits_a_small_stack() {
        let stack = 2 << 20;
        let run = || {
            for part in [
                "{", r"\sqrt", r"\frac", "x^{", r"\left(", r"\text{", r"\boxed{", r"\hat",
            ] {
                to_mathml(&part.repeat(MAX_SOURCE / part.len()), true);
            }
            let deep = MAX_SOURCE / r"\sqrt{}".len();
            to_mathml(
                &format!("{}x{}", r"\sqrt{".repeat(deep), "}".repeat(deep)),
                true,
            );
        };
        std::thread::Builder::new()
            .stack_size(stack)
            .spawn(run)
            .unwrap()
            .join()
            .unwrap();
    }
}
