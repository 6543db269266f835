// The conversation on the page.
//
// In: a conversation, and calls as it grows. Out: its questions and answers in order, the newest in sight
// unless the reader scrolled away. It must never change the conversation: it calls back for that.

import { AnswerView } from "./answer.js";
import { button, byId, element } from "./dom.js";

/** Closer to the end than this, in px, a reader is following. */
const FOLLOWING = 80;

export class Thread {
  #scroller = byId("thread");
  #turns = byId("turns");
  #empty = byId("empty");
  #latest = byId("latest");
  #callbacks;
  #conversation = null;
  #following = true;
  /** Views of answers that are still being written outlive a look at another conversation. */
  #views = new WeakMap();

  /** `onRetry(index)` and `onEdit(index, text)` are asked for by the reader. */
  constructor(callbacks) {
    this.#callbacks = callbacks;
    this.#scroller.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
      this.#following = scrollHeight - scrollTop - clientHeight < FOLLOWING;
      this.#latest.hidden = this.#following;
    }, { passive: true });
    this.#latest.addEventListener("click", () => this.follow());
  }

  /** Shows the conversation from its first message on. */
  show(conversation) {
    this.#conversation = conversation;
    this.#empty.hidden = conversation.messages.length > 0;
    this.#turns.replaceChildren(...conversation.messages.map((message) =>
      message.role === "user" ? this.#question(message) : this.view(message).element));
    this.follow();
  }

  /** The view of an answer. */
  view(answer) {
    let view = this.#views.get(answer);
    if (!view) {
      const at = () => this.#conversation.messages.indexOf(answer);
      view = new AnswerView(answer, {
        onRetry: () => this.#callbacks.onRetry(at()),
        onShown: () => this.#keepUp(),
      });
      this.#views.set(answer, view);
    }
    return view;
  }

  /** Goes to the newest line and stays with it. */
  follow() {
    this.#following = true;
    this.#latest.hidden = true;
    this.#keepUp();
  }

  #keepUp() {
    if (this.#following) this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #question(message) {
    const text = element("div", { className: "question", textContent: message.content });
    const foot = element("div", { className: "foot" });
    const article = element("article", { className: "turn", data: { role: "user" } },
      element("h2", { className: "sr-only", textContent: "Your question" }), text, foot);
    const edit = button("Edit", "edit", () => this.#edit(message, text, foot, edit));
    foot.append(edit);
    return article;
  }

  #edit(message, text, foot, edit) {
    const field = element("textarea", { value: message.content, className: "editing", rows: 3, ariaLabel: "Your question" });
    const leave = () => {
      field.replaceWith(text);
      foot.replaceChildren(edit);
      edit.focus();
    };
    const send = () => {
      const content = field.value.trim();
      if (content) this.#callbacks.onEdit(this.#conversation.messages.indexOf(message), content);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        leave();
      }
    });
    text.replaceWith(field);
    foot.replaceChildren(
      button("Send", "send-edit", send), button("Cancel", "cancel-edit", leave),
      element("span", { className: "meta", textContent: "What follows is replaced." }));
    field.focus();
  }
}
