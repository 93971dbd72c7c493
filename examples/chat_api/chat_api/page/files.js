// Files that go along with the message that is being written.

import { open } from "./address.js";
import { call, upload } from "./api.js";
import { attempt } from "./attempts.js";
import { $ } from "./elements.js";
import { newConversation } from "./sidebar.js";

let waiting = []; // what was added in this conversation

export async function attach() {
  const chosen = [...$("file").files];
  $("file").value = "";
  if (!open) await newConversation();
  const id = open;
  for (const file of chosen) {
    const told = new URLSearchParams({ name: file.name, media_type: file.type || "application/octet-stream" });
    const added = await upload(`/api/conversations/${id}/attachments?${told}`, file);
    if (id === open) waiting.push(added);
  }
  draw();
}

/** The ids of the files that go along. */
export function attached() {
  return waiting.map(({ id }) => id);
}

export function clearFiles() {
  waiting = [];
  draw();
}

function draw() {
  $("files").replaceChildren(...waiting.map(rowOf));
}

function rowOf({ id, name }) {
  const row = $("file-template").content.firstElementChild.cloneNode(true);
  const button = row.firstElementChild;
  button.textContent = `${name} ✕`;
  button.setAttribute("aria-label", `Leave out ${name}`);
  button.onclick = attempt(async () => {
    await call("DELETE", `/api/attachments/${id}`);
    waiting = waiting.filter((file) => file.id !== id);
    draw();
    $("text").focus();
  });
  return row;
}
