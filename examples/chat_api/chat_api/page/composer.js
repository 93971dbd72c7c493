// Saying something, and hearing the reply.

import { go, open } from "./address.js";
import { events, newKey, Problem } from "./api.js";
import { attempt, report } from "./attempts.js";
import { $, tell } from "./elements.js";
import { attached, clearFiles } from "./files.js";
import { drawThread, keepingPlace, markRead, refreshThread, replies, thread } from "./thread.js";

let draft = null; // what is being sent: its key stays the same until it is stored and answered
let edited = null; // the message whose place the next one takes

export async function send() {
  const content = $("text").value.trim();
  if (!content || replies.has(open)) return;
  if (draft?.id !== open || draft.content !== content || draft.instead_of !== edited) {
    draft = { id: open, content, key: newKey(), instead_of: edited };
  }
  draft.files = attached();
  await deliver(draft);
}

/** Write a message anew: it becomes another version, and what was said after it stays with the old one. */
export function edit(message) {
  edited = message?.id ?? null;
  $("editing").hidden = !message;
  $("text").value = message?.content ?? "";
  fit();
  $("text").focus();
}

/** Have a reply made again, or one made that never came. */
export async function repeat({ id }) {
  if (!replies.has(open)) await deliver({ id: open, again: id, key: newKey() });
}

function ask({ id, content, files, instead_of, again, key }) {
  const headers = { "Idempotency-Key": key };
  if (again) return events("POST", `/api/messages/${again}/again`, { headers });
  const body = { conversation_id: id, content, instead_of, attachment_ids: files };
  if (!id) body.tenant_id = $("where").value || null;
  return events("POST", "/api/chat", { body, headers });
}

/** Send it and follow the reply; in no conversation (`id` null), the service begins one. */
async function deliver(sent) {
  const element = thread.pending();
  const text = element.querySelector(".content").appendChild(new Text());
  let id = sent.id;
  replies.set(id, element);
  drawThread();
  try {
    for await (const { event, data } of ask(sent)) {
      if (event === "message") {
        if (!sent.again) taken(sent);
        if (!id) {
          const waiting = open === null;
          replies.delete(null);
          replies.set((id = sent.id = data.conversation_id), element);
          if (waiting) await go(`/c/${id}`);
        }
        if (id === open) {
          keepingPlace(true, () => {
            if (sent.again !== data.id) thread.dropFrom(sent.again ?? sent.instead_of);
            thread.put([data]);
          });
        }
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
        if (sent.again || sent.instead_of) await refreshThread(); // what was said has versions now
        return await markRead();
      } else if (event === "error") {
        if (!data.type.endsWith(":no-reply")) throw new Problem(data);
        replies.delete(id); // what there is of the reply is stored, and can be made again there
        element.remove();
        draft = null;
        tell(data.detail);
        return id === open ? await refreshThread() : undefined;
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

/** Empty the box of what is stored now. */
function taken({ content }) {
  if ($("text").value.trim() === content) $("text").value = "";
  edited = null;
  $("editing").hidden = true;
  fit();
  clearFiles();
}

export function fit() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
}
