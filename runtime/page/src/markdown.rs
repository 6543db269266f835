//! Markdown to HTML.
//!
//! In: what a model wrote, whole or cut anywhere while it is still writing. Out: sanitised HTML. CommonMark
//! with tables, strikethrough and task lists; formulas as MathML; code with its words classed. HTML in the
//! text is shown as text, and a picture becomes a link: nothing is ever loaded. It must stay linear in the
//! text, whatever the text is.
//!
//! Formulas are taken out before CommonMark reads the text, because their `\`, `_`, `*` and `|` are its own
//! signs, and put back into its events. A character that no text holds stands for each.

use std::borrow::Cow;

use pulldown_cmark::{
    Alignment, CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd, html,
};

use crate::math::{self, Formula};
use crate::{highlight, mathml, sanitise};

/// Blocks and spans within each other. What is nested deeper is shown without its frame: browsers and
/// sanitisers take time quadratic in the depth.
const MAX_DEPTH: usize = 40;

/// Stands for formula 0; the next ones follow. Private use: no font and no language has them.
const FIRST_MARK: u32 = 0xF0000;
const LAST_MARK: u32 = 0xFFFFD;

/// Turns a model's Markdown into HTML that is safe to put into the page.
///
/// The text may end anywhere: an unclosed code fence shows as code, an unclosed formula as text. LaTeX
/// that cannot be drawn is shown as it was written.
///
/// ```
/// let html = cloister_page::render_markdown("*so* <script>alert(1)</script>");
/// assert_eq!(html, "<p><em>so</em> &lt;script&gt;alert(1)&lt;/script&gt;</p>\n");
/// ```
pub fn render_markdown(text: &str) -> String {
    let text = without_marks(text);
    let formulas = find_formulas(&text);
    let marked = mark(&text, &formulas);
    let mut writer = Writer::new(&text, &formulas);
    for event in Parser::new_ext(&marked, options()) {
        writer.event(event);
    }
    let mut out = String::with_capacity(text.len() * 2);
    html::push_html(&mut out, writer.events.into_iter());
    sanitise::sanitise(&out)
}

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

fn is_mark(c: char) -> bool {
    (FIRST_MARK..=LAST_MARK).contains(&u32::from(c))
}

fn without_marks(text: &str) -> Cow<'_, str> {
    if text.contains(is_mark) {
        Cow::Owned(text.replace(is_mark, "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

fn find_formulas(text: &str) -> Vec<Formula> {
    if !text.contains(['$', '\\']) {
        return Vec::new();
    }
    // Where code is, is for CommonMark to say.
    let mut code = Vec::new();
    for (event, range) in Parser::new_ext(text, options()).into_offset_iter() {
        if matches!(event, Event::Code(_) | Event::Start(Tag::CodeBlock(_))) {
            code.push(range);
        }
    }
    let mut formulas = math::find(text, &code);
    formulas.truncate((LAST_MARK - FIRST_MARK) as usize + 1);
    formulas
}

/// The text with each formula replaced by its mark.
fn mark(text: &str, formulas: &[Formula]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (formula, mark) in formulas.iter().zip(FIRST_MARK..) {
        out.push_str(&text[at..formula.outer.start]);
        out.extend(char::from_u32(mark));
        at = formula.outer.end;
    }
    out.push_str(&text[at..]);
    out
}

/// Rewrites CommonMark's events into those that the page shows.
struct Writer<'a> {
    text: &'a str,
    formulas: &'a [Formula],
    events: Vec<Event<'a>>,
    depth: usize,
    /// Language and text of the code block that is open.
    code: Option<(String, String)>,
    table: Vec<Alignment>,
    column: usize,
    in_table_head: bool,
    /// The levels, as written, of the headings that the current one is below.
    headings: Vec<u8>,
    heading: u8,
    /// `sub` or `sup`, where the text opened one.
    script: Option<&'static str>,
}

impl<'a> Writer<'a> {
    fn new(text: &'a str, formulas: &'a [Formula]) -> Self {
        Self {
            text,
            formulas,
            events: Vec::new(),
            depth: 0,
            code: None,
            table: Vec::new(),
            column: 0,
            in_table_head: false,
            headings: Vec::new(),
            heading: 3,
            script: None,
        }
    }

    fn event(&mut self, event: Event<'a>) {
        if let Some((_, code)) = &mut self.code {
            match event {
                Event::End(TagEnd::CodeBlock) => self.close_code(),
                Event::Text(text) => code.push_str(&text),
                _ => {}
            }
            return;
        }
        match event {
            Event::Start(tag) => {
                self.depth += 1;
                if self.depth <= MAX_DEPTH || matches!(tag, Tag::CodeBlock(_)) {
                    self.start(tag);
                }
            }
            Event::End(tag) => {
                if self.depth <= MAX_DEPTH {
                    self.end(tag);
                }
                self.depth -= 1;
            }
            Event::Text(text) => self.prose(&text),
            Event::Code(code) => {
                let code = self.restore(&code);
                self.events.push(Event::Code(code.into()));
            }
            Event::Html(html) | Event::InlineHtml(html) => self.html(&html),
            Event::TaskListMarker(done) => {
                self.events
                    .push(Event::Text(if done { "☑ " } else { "☐ " }.into()));
            }
            Event::SoftBreak | Event::HardBreak | Event::Rule => self.events.push(event),
            // These need options that are off.
            Event::InlineMath(_) | Event::DisplayMath(_) | Event::FootnoteReference(_) => {}
        }
    }

    fn raw(&mut self, html: impl Into<String>) {
        self.events.push(Event::InlineHtml(html.into().into()));
    }

    fn start(&mut self, tag: Tag<'a>) {
        match tag {
            Tag::CodeBlock(kind) => {
                let info = match kind {
                    CodeBlockKind::Fenced(info) => self.restore(&info),
                    CodeBlockKind::Indented => String::new(),
                };
                let language = info.split([' ', ',', '{', '\t']).next().unwrap_or("");
                self.code = Some((language.to_string(), String::new()));
            }
            Tag::Heading { level, .. } => {
                let level = level as u8;
                while self.headings.last().is_some_and(|above| *above >= level) {
                    self.headings.pop();
                }
                self.headings.push(level);
                // Below the page's own two levels, and never a level left out.
                self.heading = (2 + self.headings.len() as u8).min(6);
                self.raw(format!("<h{}>", self.heading));
            }
            Tag::HtmlBlock => self.events.push(Event::Start(Tag::Paragraph)),
            Tag::Image {
                dest_url, title, ..
            } => {
                self.link(&dest_url, &title);
                self.events.push(Event::Text("Picture: ".into()));
            }
            Tag::Link {
                dest_url, title, ..
            } => self.link(&dest_url, &title),
            Tag::Table(alignments) => {
                self.table = alignments;
                self.raw("<div class=\"table-scroll\"><table>");
            }
            Tag::TableHead => {
                self.in_table_head = true;
                self.column = 0;
                self.raw("<thead><tr>");
            }
            Tag::TableRow => {
                self.column = 0;
                self.raw("<tr>");
            }
            Tag::TableCell => {
                let cell = if self.in_table_head { "th" } else { "td" };
                let class = match self.table.get(self.column) {
                    Some(Alignment::Left) => " class=\"left\"",
                    Some(Alignment::Center) => " class=\"center\"",
                    Some(Alignment::Right) => " class=\"right\"",
                    Some(Alignment::None) | None => "",
                };
                self.column += 1;
                self.raw(format!("<{cell}{class}>"));
            }
            other => self.events.push(Event::Start(other)),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => {
                self.close_script();
                self.events.push(Event::End(TagEnd::Paragraph));
            }
            TagEnd::Heading(_) => {
                self.close_script();
                self.raw(format!("</h{}>\n", self.heading));
            }
            TagEnd::Image => self.events.push(Event::End(TagEnd::Link)),
            TagEnd::Table => self.raw("</tbody></table></div>\n"),
            TagEnd::TableHead => {
                self.in_table_head = false;
                self.raw("</tr></thead><tbody>");
            }
            TagEnd::TableRow => self.raw("</tr>"),
            TagEnd::TableCell => {
                self.close_script();
                self.raw(if self.in_table_head { "</th>" } else { "</td>" });
            }
            other => self.events.push(Event::End(other)),
        }
    }

    fn link(&mut self, url: &str, title: &str) {
        self.events.push(Event::Start(Tag::Link {
            link_type: LinkType::Inline,
            dest_url: self.restore(url).into(),
            title: self.restore(title).into(),
            id: "".into(),
        }));
    }

    fn close_code(&mut self) {
        self.depth -= 1;
        let Some((language, code)) = self.code.take() else {
            return;
        };
        let code = self.restore(&code);
        let mut html = String::from("<pre");
        if !language.is_empty() {
            html.push_str(" data-language=\"");
            highlight::push_escaped(&mut html, &language);
            html.push('"');
        }
        html.push_str("><code>");
        highlight::push_highlighted(&mut html, &language, &code);
        html.push_str("</code></pre>\n");
        self.events.push(Event::Html(html.into()));
    }

    /// Text with its formulas drawn.
    fn prose(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find(is_mark) {
            let mark = rest[at..].chars().next().unwrap_or_default();
            if at > 0 {
                self.events.push(Event::Text(rest[..at].to_string().into()));
            }
            if let Some(formula) = self.formula(mark) {
                let html = self.draw(formula);
                self.raw(html);
            }
            rest = &rest[at + mark.len_utf8()..];
        }
        if !rest.is_empty() {
            self.events.push(Event::Text(rest.to_string().into()));
        }
    }

    fn formula(&self, mark: char) -> Option<&'a Formula> {
        self.formulas.get((u32::from(mark) - FIRST_MARK) as usize)
    }

    fn draw(&self, formula: &Formula) -> String {
        let latex = without_quote_signs(self.text, formula);
        match mathml::to_mathml(&latex, formula.display) {
            Some(math) if formula.display => format!("<span class=\"math-display\">{math}</span>"),
            Some(math) => math,
            None => {
                let mut html = String::from("<span class=\"math-source\">");
                highlight::push_escaped(&mut html, &self.text[formula.outer.clone()]);
                html.push_str("</span>");
                html
            }
        }
    }

    /// Text with its formulas as they were written, for where nothing can be drawn.
    fn restore(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match is_mark(c).then(|| self.formula(c)).flatten() {
                Some(formula) => out.push_str(&self.text[formula.outer.clone()]),
                None => out.push(c),
            }
        }
        out
    }

    /// HTML in the text is text, but for the three tags that models use as signs.
    fn html(&mut self, html: &str) {
        match html {
            "<br>" | "<br/>" | "<br />" => self.events.push(Event::HardBreak),
            "<sub>" | "<sup>" if self.script.is_none() => {
                self.script = Some(if html == "<sub>" { "sub" } else { "sup" });
                self.raw(html);
            }
            "</sub>" if self.script == Some("sub") => self.close_script(),
            "</sup>" if self.script == Some("sup") => self.close_script(),
            _ => self.prose(html),
        }
    }

    fn close_script(&mut self) {
        if let Some(tag) = self.script.take() {
            self.raw(format!("</{tag}>"));
        }
    }
}

/// The LaTeX of a formula, less the `>` of a quotation that its later lines begin with.
fn without_quote_signs<'a>(text: &'a str, formula: &Formula) -> Cow<'a, str> {
    let latex = &text[formula.inner.clone()];
    let line = text[..formula.outer.start]
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let quoted = text[line..formula.outer.start]
        .trim_start()
        .starts_with('>');
    if !quoted || !latex.contains('\n') {
        return Cow::Borrowed(latex);
    }
    let lines = latex.split('\n').enumerate().map(|(at, line)| match at {
        0 => line,
        _ => line.trim_start_matches([' ', '>']),
    });
    Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests;
