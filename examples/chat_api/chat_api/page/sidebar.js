// The list of conversations: the current ones, the archive or the trash.

import { go, open } from "./address.js";
import { call } from "./api.js";
import { $ } from "./elements.js";
import { Conversations } from "./lists.js";

const EMPTY = {
  inbox: "Nothing here yet. Press New, and the first conversation begins.",
  archive: "Nothing is archived.",
  trash: "The trash is empty.",
};

export const sidebar = new Conversations($("conversations"), $("conversation-template"));
let earlier = null; // where its pages end; an older conversation that was opened stands beyond

export async function refreshSidebar() {
  const which = sidebar.which;
  const [page, pinned] = await Promise.all([
    call("GET", `/api/conversations?list=${which}`),
    which === "inbox" ? call("GET", "/api/conversations?list=pinned&limit=100") : { items: [] },
  ]);
  if (which === sidebar.which) put(page, { reset: true, keep: open, also: pinned.items });
}

function put(page, { also = [], ...options } = {}) {
  sidebar.put([...page.items, ...also], options);
  earlier = page.cursor;
  $("more-conversations").hidden = !page.more;
  drawSidebar();
}

export async function moreConversations() {
  const page = await call("GET", `/api/conversations?list=${sidebar.which}&before=${earlier}`);
  put(page);
  if (!page.more) document.querySelector("#conversations li:last-child a").focus();
}

export function drawSidebar() {
  sidebar.select(open);
  $("no-conversations").hidden = sidebar.size > 0;
  $("no-conversations").textContent = EMPTY[sidebar.which];
}

/** Show another list. */
export async function choose(which) {
  for (const button of $("lists").children) button.setAttribute("aria-pressed", button.dataset.list === which);
  sidebar.which = which;
  sidebar.clear();
  await refreshSidebar();
}

/** Open the conversation above or below the one that is open. */
export async function step(by) {
  const ids = sidebar.ids();
  const next = ids[open ? ids.indexOf(open) + by : 0];
  if (next) await go(`/c/${next}`);
}

export async function newConversation() {
  const made = await call("POST", "/api/conversations", { tenant_id: $("where").value || null });
  if (sidebar.which !== "inbox") await choose("inbox");
  sidebar.put([made]);
  await go(`/c/${made.id}`);
  $("text").focus();
}
