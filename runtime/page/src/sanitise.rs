//! The last gate before a browser.
//!
//! In: any HTML. Out: HTML of the elements, attributes and classes named here, and no other. What comes
//! in was written by our own renderer, but it was led by a model, so nothing of it is trusted: no script,
//! no style, no picture, no form, and no address but `http`, `https` and `mailto` in a link.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};

use crate::{highlight, mathml};

const PROSE: &[&str] = &[
    "p",
    "br",
    "hr",
    "h3",
    "h4",
    "h5",
    "h6",
    "strong",
    "em",
    "del",
    "a",
    "ul",
    "ol",
    "li",
    "blockquote",
    "pre",
    "code",
    "span",
    "div",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "sub",
    "sup",
    "b",
    "i",
    "u",
    "s",
];

/// The elements of MathML Core that math-core writes, and `menclose` for struck-out terms.
const MATH: &[&str] = &[
    "math",
    "menclose",
    "merror",
    "mfrac",
    "mi",
    "mmultiscripts",
    "mn",
    "mo",
    "mover",
    "mpadded",
    "mphantom",
    "mprescripts",
    "mroot",
    "mrow",
    "ms",
    "mspace",
    "msqrt",
    "msub",
    "msubsup",
    "msup",
    "mtable",
    "mtd",
    "mtext",
    "mtr",
    "munder",
    "munderover",
];

const MATH_ATTRIBUTES: &[&str] = &[
    "accent",
    "accentunder",
    "columnspan",
    "depth",
    "dir",
    "display",
    "displaystyle",
    "fence",
    "form",
    "height",
    "intent",
    "largeop",
    "linethickness",
    "lspace",
    "mathvariant",
    "maxsize",
    "minsize",
    "movablelimits",
    "notation",
    "rowspan",
    "rspace",
    "scriptlevel",
    "separator",
    "stretchy",
    "symmetric",
    "voffset",
    "width",
];

static GATE: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut attributes: HashMap<&str, HashSet<&str>> = HashMap::new();
    for tag in MATH {
        attributes.insert(tag, MATH_ATTRIBUTES.iter().copied().collect());
    }
    attributes.insert("a", ["href", "title"].into());
    attributes.insert("ol", ["start"].into());
    // The language of a code block: any word, so it cannot be a list of classes.
    attributes.insert("pre", ["data-language"].into());

    let mut classes: HashMap<&str, HashSet<&str>> = HashMap::new();
    classes.insert("div", ["table-scroll"].into());
    classes.insert("span", ["math-display", "math-source"].into());
    classes
        .get_mut("span")
        .expect("just put in")
        .extend(highlight::CLASSES);
    for tag in ["th", "td"] {
        classes.insert(tag, ["left", "center", "right"].into());
    }
    for tag in MATH.iter().copied().chain(["span"]) {
        classes.entry(tag).or_default().extend(mathml::CLASSES);
    }

    let mut gate = Builder::empty();
    gate.tags(PROSE.iter().chain(MATH).copied().collect())
        .clean_content_tags(["script", "style"].into())
        .tag_attributes(attributes)
        .allowed_classes(classes)
        .url_schemes(["http", "https", "mailto"].into())
        // A path would lead into this server.
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .set_tag_attribute_value("a", "target", "_blank");
    gate
});

/// `html`, less all that is not allowed, with every element closed.
pub(crate) fn sanitise(html: &str) -> String {
    GATE.clean(html).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_run_or_load_is_gone() {
        for html in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "<svg onload=alert(1)><script>alert(1)</script></svg>",
            "<a href=javascript:alert(1)>x</a>",
            "<a href=' java\nscript:alert(1)'>x</a>",
            "<a href=data:text/html,<script>alert(1)</script>>x</a>",
            "<a href=/metrics>x</a><a href=//else.where/>x</a>",
            "<math><mtext><style><img src=x onerror=alert(1)></style></mtext></math>",
            "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
            "<math href=javascript:alert(1)><mi xlink:href=javascript:alert(1)>x</mi></math>",
            "<math><annotation-xml encoding=text/html><iframe src=x></annotation-xml></math>",
            "<form action=x><input><button formaction=x></form><iframe src=x><object data=x><base href=x>",
            "<p style=background:url(x) onclick=alert(1) id=prompt class=hidden>x</p>",
            "<meta http-equiv=refresh content=0;url=x><link rel=stylesheet href=x>",
        ] {
            let clean = sanitise(html);
            // Text may say anything; a tag may not.
            let tags: Vec<&str> = clean
                .split('<')
                .skip(1)
                .filter_map(|part| part.split('>').next())
                .collect();
            for tag in tags {
                for word in [
                    "script", "img", "onerror", "onload", "onclick", "style=", "href=", "iframe",
                    "form", "input", "button", "object", "meta", "base", "id=", "hidden", "svg",
                    "link",
                ] {
                    assert!(!tag.contains(word), "{word} in {clean}, from {html}");
                }
            }
        }
    }

    #[test]
    fn a_link_tells_the_other_side_nothing() {
        let clean = sanitise("<a href=\"https://example.org/\" rel=opener target=_self>x</a>");
        assert!(
            clean.contains("rel=\"noopener noreferrer nofollow\""),
            "{clean}"
        );
        assert!(clean.contains("target=\"_blank\""), "{clean}");
    }

    #[test]
    fn mathml_passes_whole() {
        let html = "<math display=\"block\"><mtable class=\"m-bl m-bt\"><mtr><mtd class=\"m-right\">\
                    <mo stretchy=\"false\">(</mo><mtext><b>x</b></mtext></mtd></mtr></mtable></math>";
        assert_eq!(sanitise(html), html);
    }
}
