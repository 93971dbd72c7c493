// The list of conversations.

import { go, open } from "./address.js";
import { call } from "./api.js";
import { $ } from "./elements.js";
import { Conversations } from "./lists.js";

export const sidebar = new Conversations($("conversations"), $("conversation-template"));
let earlier = null; // where its pages end; an older conversation that was opened stands beyond

export async function refreshSidebar() {
  put(await call("GET", "/api/conversations"), { reset: true, keep: open });
}

function put(page, options) {
  sidebar.put(page.items, options);
  earlier = page.items.at(-1)?.cursor;
  $("more-conversations").hidden = !page.more;
  drawSidebar();
}

export async function moreConversations() {
  const page = await call("GET", `/api/conversations?before=${earlier}`);
  put(page);
  if (!page.more) document.querySelector("#conversations li:last-child a").focus();
}

export function drawSidebar() {
  sidebar.select(open);
  $("no-conversations").hidden = sidebar.size > 0;
}

/** Open the conversation above or below the one that is open. */
export async function step(by) {
  const ids = sidebar.ids();
  const next = ids[open ? ids.indexOf(open) + by : 0];
  if (next) await go(`/c/${next}`);
}

export async function newConversation() {
  const made = await call("POST", "/api/conversations", { tenant_id: $("where").value || null });
  sidebar.put([made]);
  await go(`/c/${made.id}`);
  $("text").focus();
}
