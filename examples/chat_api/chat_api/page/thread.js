// One conversation: its messages, the latest first on the screen and earlier ones as somebody scrolls up.

import { go, open } from "./address.js";
import { call } from "./api.js";
import { attempt, report } from "./attempts.js";
import { $ } from "./elements.js";
import { Messages } from "./lists.js";
import { drawSidebar, sidebar } from "./sidebar.js";

export const thread = new Messages($("messages"), $("message-template"));
export const replies = new Map(); // conversation id (null: one that begins) -> the element of the reply being written
let loaded = false; // whether its messages were asked for and came
let paging = null; // the page that is being asked for

export function clearThread() {
  thread.clear();
  loaded = false;
  $("more-messages").hidden = true;
  if (replies.has(open)) $("messages").append(replies.get(open));
}

export function drawThread() {
  const conversation = sidebar.get(open);
  const title = open && (conversation?.title?.trim() || "Untitled");
  const trashed = Boolean(conversation?.deleted_at);
  $("title").textContent = title ?? "New conversation";
  $("delete").hidden = !conversation;
  $("delete").textContent = trashed ? "Delete for good" : "Delete";
  $("restore").hidden = !trashed;
  $("rename").hidden = $("more").hidden = !conversation || trashed;
  $("composer").hidden = trashed;
  $("pin").textContent = conversation?.pinned_at ? "Unpin" : "Pin";
  $("archive").textContent = conversation?.archived_at ? "Take out of the archive" : "Archive";
  $("tenant").value = conversation?.tenant_id ?? "";
  $("welcome").hidden = thread.size > 0 || replies.has(open);
  $("send").disabled = replies.has(open);
  $("unanswered").hidden = thread.last?.role !== "user" || replies.has(open) || trashed;
  document.title = title ? `${title} · Conversations` : "Conversations";
}

export async function refreshThread({ toEnd = false } = {}) {
  const id = open;
  try {
    const [conversation, page] = await Promise.all([
      call("GET", `/api/conversations/${id}`),
      call("GET", `/api/conversations/${id}/messages`),
    ]);
    if (id !== open) return;
    // the reply that this window is hearing has an element of its own
    const items = page.items.filter((item) => item.status !== "streaming" || !replies.has(id));
    sidebar.put([conversation]);
    drawSidebar();
    const gap = loaded && page.more && !items.some((item) => thread.has(item.id)); // after a long time away
    keepingPlace(toEnd, () => {
      if (conversation.branched) thread.dropFrom(items[0]?.id, items);
      thread.put(items, { reset: gap });
    });
    if (gap || !loaded) $("more-messages").hidden = !page.more;
    loaded = true;
    drawThread();
    if (conversation.unread) await markRead();
  } catch (error) {
    if (error.status !== 404 && error.status !== 422) throw error;
    sidebar.remove(id);
    if (id === open) await gone(error);
  }
}

/** Tell the service that the last message was shown. */
export async function markRead() {
  const id = open;
  if (document.hidden || !thread.last || sidebar.get(id)?.deleted_at) return;
  sidebar.put([await call("POST", `/api/conversations/${id}/read`, { until: thread.last.cursor })]);
}

export async function gone(error) {
  await go("/");
  report(error);
}

/** Show another branch. */
export async function showBranch(message) {
  await call("POST", `/api/conversations/${open}/branch`, { message_id: message });
  thread.clear();
  loaded = false;
  await refreshThread({ toEnd: true });
}

/** Show earlier messages; a page that is being asked for already is that one. */
export function moreMessages(limit = 50) {
  return (paging ??= pageBefore(limit).finally(() => (paging = null)));
}

async function pageBefore(limit) {
  const id = open;
  const page = await call("GET", `/api/conversations/${id}/messages?limit=${limit}&before=${thread.ids()[0]}`);
  if (id !== open) return;
  const scrolled = $("thread").scrollHeight - $("thread").scrollTop;
  thread.put(page.items);
  $("more-messages").hidden = !page.more;
  $("thread").scrollTop = $("thread").scrollHeight - scrolled;
}

/** Go to a message, through as many pages as it takes. */
export async function seek(message) {
  const id = open;
  while (id === open && !thread.has(message) && !$("more-messages").hidden) await moreMessages(100);
  const element = id === open && thread.element(message);
  if (!element) return;
  element.tabIndex = -1;
  element.focus({ preventScroll: true });
  element.scrollIntoView({ block: "center" });
}

/** Ask for earlier messages before somebody who scrolls up comes to the first. */
export function pageUpwards() {
  const seen = ([entry]) => entry.isIntersecting && attempt(() => moreMessages())();
  new IntersectionObserver(seen, { root: $("thread"), rootMargin: "600px 0px 0px" }).observe($("more-messages"));
}

/** Change the thread; who reads its end stays there, who reads above it is left in peace. */
export function keepingPlace(toEnd, change) {
  const box = $("thread");
  const atEnd = toEnd || box.scrollHeight - box.scrollTop - box.clientHeight < 80;
  change();
  if (replies.has(open)) $("messages").append(replies.get(open));
  if (atEnd) box.scrollTop = box.scrollHeight;
}
