use super::render_markdown as html;
use proptest::prelude::*;

/// Fails where HTML holds what could run, load or restyle.
fn assert_harmless(html: &str, from: &str) {
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let tag = rest[at + 1..]
            .split('>')
            .next()
            .unwrap()
            .to_ascii_lowercase();
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        for forbidden in [
            "script",
            "style",
            "img",
            "svg",
            "iframe",
            "object",
            "embed",
            "form",
            "input",
            "button",
            "link",
            "meta",
            "base",
            "video",
            "audio",
            "annotation",
            "foreignobject",
        ] {
            assert_ne!(name, forbidden, "{html}, from {from}");
        }
        // Quoted values may hold anything: only what stands outside of them names an attribute.
        let bare: String = tag.split('"').step_by(2).collect();
        for forbidden in [" on", " style=", " id=", " src", " xlink", " name="] {
            assert!(
                !bare.contains(forbidden),
                "{forbidden} in {tag}, from {from}"
            );
        }
        if let Some(url) = tag.split("href=\"").nth(1) {
            assert!(
                ["http://", "https://", "mailto:"]
                    .iter()
                    .any(|scheme| url.starts_with(scheme)),
                "{tag}, from {from}"
            );
        }
        rest = &rest[at + 1..];
    }
}

#[test]
fn commonmark_tables_strikethrough_and_task_lists_are_rendered() {
    assert_eq!(
        html("**a** ~~b~~ `c`"),
        "<p><strong>a</strong> <del>b</del> <code>c</code></p>\n"
    );
    assert_eq!(
        html("| a | b |\n|---|--:|\n| 1 | 2 |"),
        "<div class=\"table-scroll\"><table><thead><tr><th>a</th><th class=\"right\">b</th></tr></thead>\
         <tbody><tr><td>1</td><td class=\"right\">2</td></tr></tbody></table></div>\n"
    );
    assert_eq!(
        html("- [x] a\n- [ ] b"),
        "<ul>\n<li>☑ a</li>\n<li>☐ b</li>\n</ul>\n"
    );
    assert_eq!(html("3. a"), "<ol start=\"3\">\n<li>a</li>\n</ol>\n");
}

#[test]
fn headings_go_below_the_pages_own_and_leave_no_level_out() {
    assert_eq!(
        html("### a\n# b\n### c\n# d"),
        "<h3>a</h3>\n<h3>b</h3>\n<h4>c</h4>\n<h3>d</h3>\n"
    );
}

#[test]
fn code_is_classed_and_keeps_its_language() {
    assert_eq!(
        html("```rust\nlet x = 1;\n```"),
        "<pre data-language=\"rust\"><code><span class=\"c-key\">let</span> x = \
         <span class=\"c-num\">1</span>;\n</code></pre>\n"
    );
    assert_eq!(
        html("```\n<b>\n```"),
        "<pre><code>&lt;b&gt;\n</code></pre>\n"
    );
}

#[test]
fn formulas_in_all_delimiters_become_mathml() {
    let inline = "<math><msup><mi>x</mi><mn>2</mn></msup></math>";
    assert_eq!(html("$x^2$"), format!("<p>{inline}</p>\n"));
    assert_eq!(
        html(r"**Answer:** \(x^2\)."),
        format!("<p><strong>Answer:</strong> {inline}.</p>\n")
    );
    for display in ["$$x^2$$", r"\[x^2\]", "\\[\nx^2\n\\]", "> $$\n> x^2\n> $$"] {
        let html = html(display);
        assert!(
            html.contains("<span class=\"math-display\"><math display=\"block\"><msup>"),
            "{html}"
        );
    }
    let table = html("| a | b |\n|---|---|\n| $|x|$ | \\(y\\) |");
    assert_eq!(table.matches("<math>").count(), 2, "{table}");
    assert!(html(r"\[\boxed{a_1*b*c_2}\]").contains("m-bl m-bt"));
}

#[test]
fn boxes_environments_and_tags_of_r1_are_drawn() {
    let boxed = html(r"**Answer:** \boxed{42}");
    assert!(
        boxed.starts_with("<p><strong>Answer:</strong> <math><mtable")
            && boxed.contains("<mn>42</mn>"),
        "{boxed}"
    );
    assert!(html(r"**\boxed{a_1*b*c_2}**").contains("<p><strong><math>"));
    for text in [
        r"so \begin{align*} a&=b \\ &=c_1*d*e_2 \end{align*} it is",
        "\\begin{equation}\n x = 1\n\\end{equation}",
        "> \\begin{gather}\n> x \\\\\n> y\n> \\end{gather}",
        "- \\begin{align}\n  x &= 1\n  \\end{align}",
        r"\[ x \tag{1} \]",
    ] {
        let html = html(text);
        assert_eq!(
            html.matches("<span class=\"math-display\"><math display=\"block\">")
                .count(),
            1,
            "{html}"
        );
        assert!(
            !html.contains("math-source") && !html.contains("begin"),
            "{html}"
        );
    }
    let tagged = html("$$x \\tag{3.1}$$");
    assert!(tagged.contains("(3.1)"), "{tagged}");
    // Source is shown where LaTeX itself is spoken of.
    for code in [
        r"`\boxed{42}`",
        "```latex\n\\begin{align*}\na &= b\n\\end{align*}\n```",
        "    \\boxed{42}",
    ] {
        let html = html(code);
        assert!(html.contains("<code>") && !html.contains("<math"), "{html}");
    }
    assert_eq!(html(r"so \boxed{4"), "<p>so \\boxed{4</p>\n");
}

#[test]
fn money_is_not_mathematics() {
    assert_eq!(html("costs $5 and $6"), "<p>costs $5 and $6</p>\n");
}

#[test]
fn broken_latex_shows_its_source() {
    assert_eq!(
        html(r"so \(\frac{1}{\) it"),
        "<p>so <span class=\"math-source\">\\(\\frac{1}{\\)</span> it</p>\n"
    );
}

#[test]
fn formulas_in_code_links_and_fence_names_stay_as_written() {
    assert_eq!(html("`$x$`"), "<p><code>$x$</code></p>\n");
    assert!(html("```sh\necho $a$b$\n```").contains("$a"));
    let link = html(r"[a](https://e.org/$x$ 't $y$')");
    assert!(
        link.contains("href=\"https://e.org/$x$\"") && link.contains("title=\"t $y$\""),
        "{link}"
    );
}

#[test]
fn a_half_finished_answer_reads_well_at_every_cut() {
    let whole = "Let *us* see $x^2$, \\(y\\) and\n\n\\[\n\\frac{1}{2}\n\\]\n\n```python\nprint('<hi>')\n```\n\n\
                 | a | b |\n|---|---|\n| 1 | é |\n\n- [x] **done**\n";
    for (cut, _) in whole.char_indices() {
        assert_harmless(&html(&whole[..cut]), &whole[..cut]);
    }
    assert_eq!(
        html("```python\nprint(1"),
        "<pre data-language=\"python\"><code>\
        <span class=\"c-fun\">print</span>(<span class=\"c-num\">1</span></code></pre>\n"
    );
    assert_eq!(html("so $x^2"), "<p>so $x^2</p>\n");
    assert_eq!(html("$$\nx"), "<p>$$\nx</p>\n");
}

#[test]
fn html_in_the_text_is_shown_as_text() {
    assert_eq!(html("<b>x</b>"), "<p>&lt;b&gt;x&lt;/b&gt;</p>\n");
    assert_eq!(
        html("H<sub>2</sub>O<br>x<sup>2"),
        "<p>H<sub>2</sub>O<br>\nx<sup>2</sup></p>\n"
    );
    assert!(
        html("<div onclick=alert(1)>\nx\n</div>").starts_with("<p>&lt;div onclick=alert(1)&gt;")
    );
}

#[test]
fn a_picture_becomes_a_link() {
    let shown = html("![a cat](https://e.org/cat.png)");
    assert!(
        shown.contains("href=\"https://e.org/cat.png\"") && shown.contains(">Picture: a cat</a>"),
        "{shown}"
    );
}

#[test]
fn attacks_are_harmless() {
    for text in [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "![x](javascript:alert(1))",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](java&#x0A;script:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x) [x](file:///etc/passwd) [x](/api/events) [x](//e.org)",
        "[x](https://e.org/\"onmouseover=\"alert(1))",
        "[x](<https://e.org/ onmouseover=alert(1)>)",
        "[x](https://e.org 'a\" onmouseover=\"alert(1)')",
        "<javascript:alert(1)>",
        "```\"><script>alert(1)</script>\nx\n```",
        "```x onmouseover=alert(1)\ny\n```",
        "`<script>`",
        r"\(\text{<script>alert(1)</script>}\)",
        r"\[\text{</math><img src=x onerror=alert(1)>}\]",
        r"$\href{javascript:alert(1)}{x}$",
        r"\(\text{\textsc{<img src=x onerror=alert(1)>}}\)",
        r"$\class{x}{y} \style{position:fixed}{z} \cssId{prompt}{w}$",
        r"\(\unicode{<script>} \color{red;background:url(x)}{y}\)",
        "| <img src=x onerror=alert(1)> |\n|---|\n| [x](javascript:alert(1)) |",
        "<math><mtext><table><mglyph><style><!--</style><img title=\"--><img src=1 onerror=alert(1)>\">",
        "<svg><p><style><a id=\"</style><img src=1 onerror=alert(1)>\">",
        "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
        "<sub onclick=alert(1)>x</sub>",
        "\u{0}<\u{0}script>alert(1)</script>",
        "\u{F0000}\u{F0001}$x$\u{FFFFD}",
    ] {
        assert_harmless(&html(text), text);
    }
}

#[test]
fn a_mark_in_the_text_is_no_formula() {
    assert_eq!(html("\u{F0000}").trim(), "<p>\u{FFFD}</p>");
    assert_eq!(html("\u{F0000} $x$").matches("<math>").count(), 1);
}

#[test]
fn huge_nesting_is_cut_and_comes_through() {
    for part in [
        ">",
        "- ",
        "* ",
        "1. ",
        "[",
        "![",
        "**a ",
        "_a *b ",
        "`",
        "``` ",
        "$",
        "\\(",
        "\\[",
        "$$",
        "\\\\",
        "<sub>",
        "<b>",
        "| ",
        "~~",
        "[a](",
        "&amp;",
        "<!--",
        "<?",
        "\\[\\sqrt{",
        "\\boxed{",
        "\\begin{align}",
        "\\begin{align}x\\end{gather}",
    ] {
        let text = part.repeat(100_000 / part.len());
        let rendered = html(&text);
        assert!(rendered.len() < 20 * text.len() + 1000, "{part}");
        assert!(
            rendered.matches("<blockquote>").count() <= super::MAX_DEPTH,
            "{part}"
        );
        assert_harmless(&rendered, part);
    }
}

proptest! {
    #[test]
    fn no_text_is_harmful(text in "\\PC*") {
        assert_harmless(&html(&text), &text);
    }

    #[test]
    fn no_mix_of_signs_is_harmful(parts in proptest::collection::vec(proptest::sample::select(vec![
        "\\(", "\\)", "\\[", "\\]", "$", "$$", "`", "```", "\n", "\n\n", "> ", "- ", "    ", "|", "|---|\n", "*", "**",
        "_", "[", "](", ")", "![", "<", ">", "</", "script", "<sub>", "</sub>", "<br>", "style", "\"", "'", "=", "onload",
        "javascript:", "\\frac", "\\text{", "{", "}", "\\begin{aligned}", "\\end{aligned}", "\\begin{align*}", "\\end{align*}", "\\boxed{", "\\tag{1}", "\\label{a}", "&", "\\\\", "é", "x", "5", "~~",
        "# ", "[ ] ", "https://e.org", "\u{0}", "\u{F0000}",
    ]), 0..60)) {
        let text = parts.concat();
        assert_harmless(&html(&text), &text);
    }

    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        html(&String::from_utf8_lossy(&bytes));
    }
}
