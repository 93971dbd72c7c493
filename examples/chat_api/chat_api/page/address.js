// The address is the state: /c/<id> is a conversation, / is none.

import { $ } from "./elements.js";
import { drawSidebar } from "./sidebar.js";
import { clearThread, drawThread, refreshThread } from "./thread.js";

const wide = matchMedia("(min-width: 46rem)");

/** The id of the conversation that is shown, or null. */
export let open = null;

export function go(path) {
  if (path !== location.pathname) history.pushState(null, "", path);
  return show();
}

export async function show() {
  const id = location.pathname.match(/^\/c\/([0-9a-f-]{36})$/)?.[1] ?? null;
  const changed = id !== open;
  open = id;
  $("app").dataset.view = id ? "thread" : "list";
  if (changed) clearThread();
  drawSidebar();
  drawThread();
  if (id) {
    await refreshThread({ toEnd: changed });
    if (changed) (wide.matches ? $("text") : $("title")).focus();
  }
}
