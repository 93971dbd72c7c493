// Finding what was said: the results stand in the place of the list.

import { call } from "./api.js";
import { $, tell } from "./elements.js";

let asked = ""; // what the results are of
let cursor = null;

export async function search() {
  const query = $("query").value.trim();
  if (query === asked) return;
  asked = query;
  $("found").hidden = !query;
  $("listed").hidden = Boolean(query);
  if (!query) return;
  const page = await call("GET", `/api/search?q=${encodeURIComponent(query)}`);
  if (query !== asked) return; // typed on meanwhile
  $("hits").replaceChildren();
  put(page);
  tell(page.items.length ? `${page.items.length}${page.more ? " or more" : ""} found.` : "Nothing found.");
}

export async function moreHits() {
  put(await call("GET", `/api/search?q=${encodeURIComponent(asked)}&before=${cursor}`));
}

function put(page) {
  for (const { id, conversation_id, title, snippet } of page.items) {
    const row = $("hit-template").content.firstElementChild.cloneNode(true);
    row.querySelector("a").href = `/c/${conversation_id}#${id}`;
    row.querySelector(".name").textContent = title?.trim() || "Untitled";
    row.querySelector(".snippet").append(
      ...snippet.map(({ text, found }) => Object.assign(document.createElement(found ? "mark" : "span"), { textContent: text })),
    );
    $("hits").append(row);
  }
  cursor = page.items.at(-1)?.cursor;
  $("more-hits").hidden = !page.more;
  $("nothing-found").hidden = $("hits").children.length > 0;
}
