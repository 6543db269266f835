// Conversations and settings, in this browser and nowhere else.
//
// In: conversations. Out: the same, later. A list of titles is kept beside them so that the shelf need not
// read them all. It must never drop a conversation on its own: when there is no room it throws StoreFull.

import { revive, titleOf } from "./conversation.js";

const LIST = "cloister.list";
const SETTINGS = "cloister.settings";
const DRAFT = "cloister.draft";
const OPENED = "cloister.opened";
const conversationKey = (id) => `cloister.conversation.${id}`;

/** Nothing more can be kept: the browser has no room left, or keeps nothing for this page. */
export class StoreFull extends Error {}

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch (error) {
    throw new StoreFull("This browser has no room left for conversations.", { cause: error });
  }
}

function erase(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // A browser that keeps nothing has nothing to erase.
  }
}

/** [{id, title, updated}], newest first. */
export function list() {
  return read(LIST, []).toSorted((a, b) => b.updated - a.updated);
}

export function load(id) {
  const conversation = read(conversationKey(id), null);
  return conversation && revive(conversation);
}

export function save(conversation) {
  write(conversationKey(conversation.id), conversation);
  // Read again each time: another tab may have written its own.
  const others = list().filter(({ id }) => id !== conversation.id);
  write(LIST, [{ id: conversation.id, title: titleOf(conversation), updated: conversation.updated }, ...others]);
}

export function remove(id) {
  erase(conversationKey(id));
  const others = list().filter((entry) => entry.id !== id);
  if (others.length) write(LIST, others);
  else erase(LIST);
}

export function removeAll() {
  for (const { id } of list()) remove(id);
}

/** Calls back when another tab changed the list. */
export function onOtherTab(changed) {
  addEventListener("storage", ({ key }) => {
    if (key === LIST || key === null) changed();
  });
}

/** {system, temperature, maxTokens}; null where the model's own is to be used. */
export function settings() {
  return { system: "", temperature: null, maxTokens: null, ...read(SETTINGS, {}) };
}

export function saveSettings(changed) {
  write(SETTINGS, changed);
}

/** What was typed and not yet sent. Gone with the tab. */
export const draft = () => ofTab(DRAFT) ?? "";
export const saveDraft = (text) => keepInTab(DRAFT, text);

/** The id of the conversation that this tab shows: a reload comes back to it, a new tab begins afresh. */
export const opened = () => ofTab(OPENED);
export const saveOpened = (id) => keepInTab(OPENED, id);

function ofTab(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

function keepInTab(key, text) {
  try {
    sessionStorage.setItem(key, text);
  } catch {
    // Losing it on reload is no reason to stop a person from typing.
  }
}
