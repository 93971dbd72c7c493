// Links to the conversation that is open.

import { open } from "./address.js";
import { call } from "./api.js";
import { attempt } from "./attempts.js";
import { $ } from "./elements.js";
import { thread } from "./thread.js";

export async function showShares() {
  $("actions").hidePopover();
  $("new-share").hidden = true;
  $("make-share").disabled = !thread.size;
  await list();
  $("share-dialog").showModal();
}

export async function makeShare() {
  const made = await call("POST", `/api/conversations/${open}/shares`, { message_id: thread.ids().at(-1) });
  $("share-link").value = location.origin + made.path;
  $("new-share").hidden = false;
  $("share-link").select();
  await list();
}

async function list() {
  const { items } = await call("GET", `/api/conversations/${open}/shares`);
  const opened = items.filter(({ revoked_at, expires_at }) => !revoked_at && !(Date.parse(expires_at) < Date.now()));
  $("shares").replaceChildren(...opened.map(rowOf));
}

function rowOf({ id, created_at }) {
  const row = $("share-template").content.firstElementChild.cloneNode(true);
  row.querySelector("span").textContent = `A link of ${new Date(created_at).toLocaleString()}`;
  row.querySelector("button").onclick = attempt(async () => {
    await call("DELETE", `/api/shares/${id}`);
    $("new-share").hidden = true;
    await list();
  });
  return row;
}
