// What a person does with the page, and what the service tells it. The address is the state: /c/<id> is a conversation.

import { call, events, newKey, Problem, token } from "./api.js";
import { Conversations, Messages } from "./lists.js";

const $ = (id) => document.getElementById(id);
const sidebar = new Conversations($("conversations"), $("conversation-template"));
const thread = new Messages($("messages"), $("message-template"));
const replies = new Map(); // conversation id -> the element of the reply that is being written there
const wide = matchMedia("(min-width: 46rem)");
let open = null; // the id of the conversation that is shown
let loaded = false; // whether its messages were asked for and came
let earlier = null; // where the pages of the sidebar end; an older conversation that was opened stands beyond
let draft = null; // what is being sent: its key stays the same until it is stored and answered
let deleting = null; // the id of what this window deletes, and need not be told of
let live = null;

// ---- signing in

function start() {
  takeLink();
  if (token.get()) enter();
  else signIn();
}

/** Take the token out of the address: neither in the history nor in a copied address. It ends no session in use: whoever
 * made the link could have somebody write into an account that is not theirs. */
function takeLink() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return false;
  history.replaceState(null, "", location.pathname);
  const kept = token.get();
  if (!kept) token.set(given);
  $("link").hidden = !kept || kept === given;
  $("use-link").onclick = () => {
    live?.abort();
    token.forget();
    token.set(given);
    location.replace("/"); // from nothing, so that no window shows one what the other wrote
  };
  return !kept;
}

function signIn(reason) {
  live?.abort();
  token.forget();
  $("app").hidden = true;
  $("sign-in").hidden = false;
  if (reason) $("sign-in-reason").textContent = `${reason} Sign in again with a new link or token.`;
  $("token").focus();
}

async function enter() {
  try {
    const me = await call("GET", "/api/me");
    $("who").textContent = me.email ?? "Guest";
    sidebar.tenants = new Map(me.tenants.map(({ id, name }) => [id, name]));
    $("where").replaceChildren(new Option("New ones are personal", ""));
    $("where").append(...me.tenants.map(({ id, name }) => new Option(`New ones in ${name}`, id)));
    $("where").hidden = !me.tenants.length;
    await refreshSidebar();
    $("sign-in").hidden = true;
    $("app").hidden = false;
    await show();
    follow();
  } catch (error) {
    report(error);
  }
}

/** Tell of an error, with a button for another try where that may help. */
function report(error, again) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401) return signIn(error.message);
  $("app").hidden = false;
  $("alert").replaceChildren(error.message);
  if (again) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Try again";
    button.addEventListener("click", again);
    $("alert").append(" ", button);
  }
}

function attempt(action) {
  return async (event) => {
    event?.preventDefault();
    $("alert").replaceChildren();
    try {
      await action(event);
    } catch (error) {
      report(error, () => attempt(action)(event));
    }
  };
}

// ---- the sidebar

async function refreshSidebar() {
  putConversations(await call("GET", "/api/conversations"), { reset: true, keep: open });
}

function putConversations(page, options) {
  sidebar.put(page.items, options);
  earlier = page.items.at(-1)?.cursor;
  $("more-conversations").hidden = !page.more;
  drawSidebar();
}

async function moreConversations() {
  const page = await call("GET", `/api/conversations?before=${earlier}`);
  putConversations(page);
  if (!page.more) document.querySelector("#conversations li:last-child a").focus();
}

function drawSidebar() {
  sidebar.select(open);
  $("no-conversations").hidden = sidebar.size > 0;
}

async function newConversation() {
  const made = await call("POST", "/api/conversations", { tenant_id: $("where").value || null });
  sidebar.put([made]);
  await go(`/c/${made.id}`);
  $("text").focus();
  return made.id;
}

// ---- one conversation

function go(path) {
  if (path !== location.pathname) history.pushState(null, "", path);
  return show();
}

async function show() {
  const id = location.pathname.match(/^\/c\/([0-9a-f-]{36})$/)?.[1] ?? null;
  const changed = id !== open;
  open = id;
  if (changed) {
    thread.clear();
    loaded = false;
  }
  $("messages").append(...(replies.has(id) ? [replies.get(id)] : []));
  $("app").dataset.view = id ? "thread" : "list";
  if (changed) $("more-messages").hidden = true;
  drawSidebar();
  drawTitle();
  if (id) {
    await refreshThread({ toEnd: changed });
    if (changed) (wide.matches ? $("text") : $("title")).focus();
  }
}

function drawTitle() {
  const title = open && (sidebar.get(open)?.title?.trim() || "Untitled");
  $("title").textContent = title ?? "New conversation";
  $("rename").hidden = $("delete").hidden = !open;
  $("welcome").hidden = thread.size > 0 || replies.has(open);
  $("send").disabled = replies.has(open);
  document.title = title ? `${title} · Conversations` : "Conversations";
}

async function refreshThread({ toEnd = false } = {}) {
  const id = open;
  try {
    const [conversation, page] = await Promise.all([
      call("GET", `/api/conversations/${id}`),
      call("GET", `/api/conversations/${id}/messages`),
    ]);
    if (id !== open) return;
    sidebar.put([conversation]);
    drawSidebar();
    const gap = loaded && page.more && !page.items.some((item) => thread.has(item.id)); // after a long time away
    keepingPlace(toEnd, () => thread.put(page.items, { reset: gap }));
    if (gap || !loaded) $("more-messages").hidden = !page.more;
    loaded = true;
    drawTitle();
  } catch (error) {
    if (error.status !== 404 && error.status !== 422) throw error;
    sidebar.remove(id);
    if (id === open) await gone(error);
  }
}

async function gone(error) {
  await go("/");
  report(error);
}

async function moreMessages() {
  const id = open;
  const page = await call("GET", `/api/conversations/${id}/messages?before=${thread.first}`);
  if (id !== open) return;
  const scrolled = $("thread").scrollHeight - $("thread").scrollTop;
  thread.put(page.items);
  $("thread").scrollTop = $("thread").scrollHeight - scrolled;
  $("more-messages").hidden = !page.more;
  if (!page.more) $("thread").focus();
}

/** Change the thread; who reads its end stays there, who reads above it is left in peace. */
function keepingPlace(toEnd, change) {
  const box = $("thread");
  const atEnd = toEnd || box.scrollHeight - box.scrollTop - box.clientHeight < 80;
  change();
  if (replies.has(open)) $("messages").append(replies.get(open));
  if (atEnd) box.scrollTop = box.scrollHeight;
}

// ---- saying something

async function send() {
  const content = $("text").value.trim();
  if (!content || replies.has(open)) return;
  const id = open ?? (await newConversation());
  if (draft?.id !== id || draft.content !== content) draft = { id, content, key: newKey() };
  await deliver(draft);
}

async function deliver({ id, content, key }) {
  const element = thread.pending();
  const text = element.querySelector(".content").appendChild(new Text());
  replies.set(id, element);
  drawTitle();
  try {
    const body = { conversation_id: id, content };
    for await (const { event, data } of events("POST", "/api/chat", { body, headers: { "Idempotency-Key": key } })) {
      if (event === "message") {
        if ($("text").value.trim() === content) $("text").value = "";
        fit();
        if (id === open) keepingPlace(true, () => thread.put([data]));
      } else if (event === "delta") {
        const speak = () => text.appendData(data.text);
        if (id === open) keepingPlace(false, speak);
        else speak();
      } else if (event === "done") {
        replies.delete(id);
        element.remove();
        draft = null;
        if (id === open) keepingPlace(false, () => thread.put([data]));
        $("status").textContent = `Reply: ${data.content}`;
        return;
      } else if (event === "error") {
        throw new Problem(data);
      }
    }
    throw new Problem({ detail: "The connection was lost." });
  } catch (error) {
    element.remove();
    replies.delete(id);
    report(error, attempt(() => deliver({ id, content, key })));
  } finally {
    drawTitle();
  }
}

function fit() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight}px`;
}

// ---- renaming and deleting

function ask(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.querySelector(".cancel").onclick = () => dialog.close();
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
    dialog.showModal();
  });
}

async function rename() {
  const id = open;
  $("new-title").value = sidebar.get(id)?.title ?? "";
  $("new-title").select();
  if (!(await ask($("rename-dialog")))) return;
  sidebar.put([await call("PATCH", `/api/conversations/${id}`, { title: $("new-title").value })]);
  drawSidebar();
  drawTitle();
}

async function remove() {
  const id = open;
  $("delete-what").textContent = `“${$("title").textContent}” goes with all of its messages, for good.`;
  if (!(await ask($("delete-dialog")))) return;
  deleting = id;
  await call("DELETE", `/api/conversations/${id}`);
  sidebar.remove(id);
  await go("/");
  $("status").textContent = "Deleted.";
  $("new").focus();
}

// ---- live updates

// A browser opens six connections to one HTTP/1.1 server, and a stream holds one: a window that is hidden lets go of its
// own, and looks at everything when it is seen again.
async function follow() {
  live?.abort();
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
    if (thread.size > before) $("status").textContent = "New messages.";
  } else {
    try {
      sidebar.put([await call("GET", `/api/conversations/${id}`)]);
    } catch (error) {
      if (error.status !== 404) throw error; // 404: gone already, and its own event comes
    }
    drawSidebar();
    if (id === open) drawTitle();
  }
}

// ---- wiring

$("new").addEventListener("click", attempt(newConversation));
$("more-conversations").addEventListener("click", attempt(moreConversations));
$("more-messages").addEventListener("click", attempt(moreMessages));
$("rename").addEventListener("click", attempt(rename));
$("delete").addEventListener("click", attempt(remove));
$("composer").addEventListener("submit", attempt(send));
$("sign-out").addEventListener("click", () => signIn());
$("text").addEventListener("input", fit);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("composer").requestSubmit();
  }
});
$("sign-in").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set($("token").value.trim());
  $("token").value = "";
  enter();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  attempt(() => go(link.getAttribute("href")))(event);
});
document.addEventListener("visibilitychange", follow);
addEventListener("popstate", attempt(() => $("app").hidden || show()));
addEventListener("hashchange", () => takeLink() && enter()); // a link opened in a tab that shows the page already
$("keep-session").addEventListener("click", () => ($("link").hidden = true));

start();
