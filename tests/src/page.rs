//! The page in a browser, and what a person does with it.
//!
//! In: a running `serve`. Out: what the page shows of its conversation. It knows the page by what the
//! page's README says that tests may hold on to.

use serde_json::{Value, json};

use crate::browser::{Browser, key};
use crate::process::until;
use crate::serve::Serve;

/// An open page.
pub struct Page {
    /// Where it is open.
    pub browser: Browser,
}

impl Page {
    /// Opens the page of a service, and waits until it knows its model.
    pub fn open(serve: &Serve) -> Self {
        Self::open_at(&serve.url)
    }

    /// The same by its address, without a slash at the end.
    pub fn open_at(url: &str) -> Self {
        let page = Self {
            browser: Browser::start(),
        };
        page.browser.resize(1280, 800);
        page.browser.open(&format!("{url}/"));
        page.wait_for_the_model();
        page
    }

    /// Opens the page of a box in the network, lets the browser in with this code, and waits until the page knows its
    /// model.
    pub fn pair_at(url: &str, code: &str) -> Self {
        let page = Self {
            browser: Browser::start(),
        };
        page.browser.resize(1280, 800);
        page.browser.open(&format!("{url}/"));
        page.browser
            .type_into("#code", &format!("{code}{}", key::ENTER));
        until("the page is there", || {
            page.holds("document.querySelector('select#model')?.disabled === false")
        });
        page
    }

    /// Loads it again, as the browser's button does.
    pub fn reload(&self) {
        self.browser.reload();
        self.wait_for_the_model();
    }

    /// Loads it again, whatever comes.
    pub fn reload_raw(&self) {
        self.browser.reload();
    }

    fn wait_for_the_model(&self) {
        until("the page knows its model", || {
            self.holds("!document.querySelector('select#model').disabled")
        });
    }

    /// The id of the model that is chosen, empty while there is none.
    pub fn model(&self) -> String {
        self.text("document.querySelector('select#model').value")
    }

    /// Chooses a model, as a person does with the letters of its name.
    pub fn choose(&self, model: &str) {
        self.browser.type_into("select#model", model);
        assert_eq!(self.model(), model);
    }

    /// Something where a JavaScript expression is true.
    pub fn holds(&self, expression: &str) -> Option<()> {
        (self.browser.run(&format!("return Boolean({expression})")) == json!(true)).then_some(())
    }

    /// What a JavaScript expression is as a text, empty where there is none.
    pub fn text(&self, expression: &str) -> String {
        let value = self
            .browser
            .run(&format!("return String({expression} ?? '')"));
        value.as_str().expect("a string").to_owned()
    }

    /// Types a question and presses the button.
    pub fn ask(&self, question: &str) {
        self.browser.type_into("textarea#prompt", question);
        self.browser.click("button#send");
    }

    /// `streaming`, `done`, `stopped` or `error`: the state of the last answer.
    pub fn state(&self) -> String {
        self.text(
            "[...document.querySelectorAll('[data-role=\"assistant\"]')].at(-1)?.dataset.state",
        )
    }

    /// What can be seen of an element in the last answer: its text, empty where there is none.
    pub fn of_last_answer(&self, selector: &str) -> String {
        self.text(&format!(
            "[...document.querySelectorAll('[data-role=\"assistant\"]')].at(-1)?.querySelector({})?.innerText.trim()",
            json!(selector)
        ))
    }

    /// The text of the last answer.
    pub fn answer(&self) -> String {
        self.of_last_answer(".answer")
    }

    /// The text of each question and answer in the conversation, in order.
    pub fn conversation(&self) -> Vec<String> {
        self.texts(
            "[...document.querySelectorAll('.question, [data-role=\"assistant\"] .answer')].map(e => e.innerText.trim())",
        )
    }

    /// The text of the last answer, once it has this state.
    pub fn answer_when(&self, state: &str) -> String {
        until(&format!("the answer is {state}"), || {
            (self.state() == state).then_some(())
        });
        self.answer()
    }

    /// Presses the stop button if there is something to stop, and tells whether there was.
    pub fn stop(&self) -> bool {
        self.browser.run(
            "const stop = document.querySelector('button#stop'); if (!stop.offsetParent) return false; stop.click(); return true",
        ) == json!(true)
    }

    /// Asks, and presses stop while the answer comes. A model may end it before, or in the moment of
    /// stopping; then it is asked again. No list is asked for: while it is empty nothing of it can be seen.
    pub fn stop_on_its_way(&self) {
        until("an answer is stopped on its way", || {
            self.ask("Write a long story about a garden.");
            until("some words are there, or the end", || {
                (self.answer().len() > 20 || self.state() != "streaming").then_some(())
            });
            self.stop();
            until("the answer is at its end", || {
                (self.state() != "streaming").then_some(())
            });
            (self.state() == "stopped").then_some(())
        });
    }

    /// Notes all that the live region says from now on.
    pub fn listen(&self) {
        self.browser.run(
            "window.ear?.disconnect(); window.said = []; (window.ear = new MutationObserver(changes => said.push(...changes.flatMap(c => [...c.addedNodes].map(n => n.data))))) \
             .observe(document.querySelector('[aria-live=\"polite\"].sr-only'), {childList: true})",
        );
    }

    /// What the live region has said since [`Page::listen`].
    pub fn said(&self) -> Vec<String> {
        self.texts("said")
    }

    /// Notes all that stands in the place of an answer that has not begun, from now on.
    pub fn watch_the_waiting(&self) {
        self.browser.run(
            "window.waits = []; new MutationObserver(() => { \
               const wait = [...document.querySelectorAll('.waiting:not([hidden])')].at(-1); \
               const bar = wait?.querySelector('progress'); \
               const now = wait && [wait.innerText.trim(), bar && `${bar.value} of ${bar.max}`].filter(Boolean).join(' | '); \
               if (now && now !== waits.at(-1)) waits.push(now); \
             }).observe(document.getElementById('turns'), {childList: true, subtree: true, characterData: true, attributes: true})",
        );
    }

    /// What has been waited for since [`Page::watch_the_waiting`]: words, then ` | ` and how full a bar was.
    pub fn waits(&self) -> Vec<String> {
        self.texts("waits")
    }

    fn texts(&self, variable: &str) -> Vec<String> {
        let texts = self.browser.run(&format!("return {variable}"));
        serde_json::from_value(texts).expect("a list of texts")
    }

    /// Types with the keys alone, into whatever has the focus.
    pub fn key_in(&self, text: &str) {
        for letter in text.chars() {
            self.browser.press(&[letter]);
        }
    }

    /// Goes back with Shift and Tab until this has the focus.
    pub fn tab_back_to(&self, selector: &str) {
        const MOST: usize = 60;
        for _ in 0..MOST {
            if self.has_focus(selector) {
                return;
            }
            self.browser.press(&[key::SHIFT, key::TAB]);
        }
        panic!("{MOST} presses of Tab did not reach {selector}");
    }

    /// Whether this has the focus.
    pub fn has_focus(&self, selector: &str) -> bool {
        self.holds(&format!(
            "document.activeElement.matches({})",
            json!(selector)
        ))
        .is_some()
    }

    /// Puts a conversation into the browser's store, as the page keeps it, and comes back to it.
    pub fn keep(&self, messages: &Value) {
        let kept = json!({"id": "kept", "updated": 1, "messages": messages}).to_string();
        let list = json!([{"id": "kept", "title": "Kept", "updated": 1}]).to_string();
        self.browser.run(&format!(
            "localStorage.setItem('cloister.conversation.kept', {}); localStorage.setItem('cloister.list', {}); \
             sessionStorage.setItem('cloister.opened', 'kept')",
            json!(kept),
            json!(list),
        ));
        self.reload();
    }

    /// Writes settings as the dialog does, for the questions that follow.
    pub fn set(&self, settings: &Value) {
        self.browser.run(&format!(
            "localStorage.setItem('cloister.settings', {})",
            json!(settings.to_string())
        ));
    }
}
