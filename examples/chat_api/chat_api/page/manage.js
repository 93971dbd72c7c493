// Renaming, pinning, archiving, moving, throwing away, restoring and deleting the conversation that is open.

import { go, open } from "./address.js";
import { call } from "./api.js";
import { ask, attempt, offer } from "./attempts.js";
import { $, tell } from "./elements.js";
import { drawSidebar, sidebar } from "./sidebar.js";
import { drawThread } from "./thread.js";

export let deleting = null; // the id of what this window deletes, and need not be told of

function took(conversation) {
  sidebar.put([conversation]);
  drawSidebar();
  drawThread();
}

async function change(changes, said) {
  const id = open;
  took(await call("PATCH", `/api/conversations/${id}`, changes));
  if (said) tell(said);
}

export async function rename() {
  $("new-title").value = sidebar.get(open)?.title ?? "";
  $("new-title").select();
  if (await ask($("rename-dialog"))) await change({ title: $("new-title").value });
}

export async function pin() {
  $("actions").hidePopover();
  const pinned = !sidebar.get(open).pinned_at;
  await change({ pinned }, pinned ? "Pinned." : "Unpinned.");
}

export async function archive() {
  $("actions").hidePopover();
  const archived = !sidebar.get(open).archived_at;
  await change({ archived }, archived ? "Archived." : "Back among the current ones.");
}

export async function move() {
  await change({ tenant_id: $("tenant").value || null }, "Moved.");
}

export async function restore(id = open) {
  took(await call("POST", `/api/conversations/${id}/restore`));
  tell("Restored.");
}

/** To the trash; from there, for good. */
export async function remove() {
  const id = open;
  const { deleted_at } = sidebar.get(id);
  if (deleted_at) {
    $("delete-what").textContent = `“${$("title").textContent}” goes with all of its messages.`;
    if (!(await ask($("delete-dialog")))) return;
  }
  deleting = id;
  await call("DELETE", `/api/conversations/${id}${deleted_at ? "?forever=true" : ""}`);
  sidebar.remove(id);
  await go("/");
  if (deleted_at) tell("Deleted.");
  else offer("In the trash.", "Undo", attempt(() => restore(id)));
  $("new").focus();
}
