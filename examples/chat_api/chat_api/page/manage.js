// Renaming and deleting.

import { go, open } from "./address.js";
import { call } from "./api.js";
import { ask } from "./attempts.js";
import { $, tell } from "./elements.js";
import { drawSidebar, sidebar } from "./sidebar.js";
import { drawThread } from "./thread.js";

export let deleting = null; // the id of what this window deletes, and need not be told of

export async function rename() {
  const id = open;
  $("new-title").value = sidebar.get(id)?.title ?? "";
  $("new-title").select();
  if (!(await ask($("rename-dialog")))) return;
  sidebar.put([await call("PATCH", `/api/conversations/${id}`, { title: $("new-title").value })]);
  drawSidebar();
  drawThread();
}

export async function remove() {
  const id = open;
  $("delete-what").textContent = `“${$("title").textContent}” goes with all of its messages, for good.`;
  if (!(await ask($("delete-dialog")))) return;
  deleting = id;
  await call("DELETE", `/api/conversations/${id}`);
  sidebar.remove(id);
  await go("/");
  tell("Deleted.");
  $("new").focus();
}
