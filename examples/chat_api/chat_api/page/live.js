// Live updates. A browser opens six connections to one HTTP/1.1 server, and a stream holds one: a window that is hidden
// lets go of its own, and looks at everything when it is seen again.

import { open } from "./address.js";
import { call, events, Problem } from "./api.js";
import { $, tell } from "./elements.js";
import { deleting } from "./manage.js";
import { signIn } from "./session.js";
import { drawSidebar, refreshSidebar, sidebar } from "./sidebar.js";
import { drawThread, gone, refreshThread, replies, thread } from "./thread.js";

let live = null;

export function unfollow() {
  live?.abort();
}

export async function follow() {
  unfollow();
  if (document.hidden || $("app").hidden) return;
  live = new AbortController();
  const { signal } = live;
  for (let pause = 1000; !signal.aborted; pause = Math.min(2 * pause, 30_000)) {
    try {
      for await (const { event, data } of events("GET", "/api/events", { signal })) {
        pause = 1000;
        if (event === "ready") await Promise.all([refreshSidebar(), open ? refreshThread() : null]);
        else await changed(data);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return signIn(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

async function changed({ conversation_id: id, kind }) {
  if (kind === "deleted") {
    sidebar.remove(id);
    drawSidebar();
    if (id === open && id !== deleting) await gone(new Problem({ detail: "Deleted in another window." }));
  } else if (id === open && !replies.has(id)) {
    const before = thread.size;
    await refreshThread();
    if (thread.size > before) tell("New messages.");
  } else {
    try {
      sidebar.put([await call("GET", `/api/conversations/${id}`)]);
    } catch (error) {
      if (error.status !== 404) throw error; // 404: gone already, and its own event comes
    }
    drawSidebar();
    if (id === open) drawThread();
  }
}
