// Saying something, and hearing the reply.

import { go, open } from "./address.js";
import { events, newKey, Problem } from "./api.js";
import { attempt, report } from "./attempts.js";
import { $, tell } from "./elements.js";
import { drawThread, keepingPlace, markRead, replies, thread } from "./thread.js";

let draft = null; // what is being sent: its key stays the same until it is stored and answered

export async function send() {
  const content = $("text").value.trim();
  if (!content || replies.has(open)) return;
  if (draft?.id !== open || draft.content !== content) draft = { id: open, content, key: newKey() };
  await deliver(draft);
}

/** Send it and follow the reply; in no conversation (`id` null), the service begins one. */
async function deliver(sent) {
  const element = thread.pending();
  const text = element.querySelector(".content").appendChild(new Text());
  let { id, content, key } = sent;
  replies.set(id, element);
  drawThread();
  try {
    const body = { conversation_id: id, content, ...(id ? {} : { tenant_id: $("where").value || null }) };
    for await (const { event, data } of events("POST", "/api/chat", { body, headers: { "Idempotency-Key": key } })) {
      if (event === "message") {
        if ($("text").value.trim() === content) $("text").value = "";
        fit();
        if (!id) {
          const waiting = open === null;
          replies.delete(null);
          replies.set((id = sent.id = data.conversation_id), element);
          if (waiting) await go(`/c/${id}`);
        }
        if (id === open) keepingPlace(true, () => thread.put([data]));
      } else if (event === "delta") {
        const speak = () => text.appendData(data.text);
        if (id === open) keepingPlace(false, speak);
        else speak();
      } else if (event === "done") {
        replies.delete(id);
        element.remove();
        draft = null;
        tell(`Reply: ${data.content}`);
        if (id !== open) return;
        keepingPlace(false, () => thread.put([data]));
        return await markRead();
      } else if (event === "error") {
        throw new Problem(data);
      }
    }
    throw new Problem({ detail: "The connection was lost." });
  } catch (error) {
    element.remove();
    replies.delete(id);
    report(error, attempt(() => deliver(sent)));
  } finally {
    drawThread();
  }
}

export function fit() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
}
