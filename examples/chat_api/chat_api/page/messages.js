// What can be done with a message: edit it, have it made again, switch between its versions, rate it, save its files.

import { call, save } from "./api.js";
import { edit, repeat } from "./composer.js";
import { showBranch, thread } from "./thread.js";

const DEEDS = {
  edit,
  again: repeat,
  retry: repeat,
  previous: (message) => step(message, -1),
  next: (message) => step(message, 1),
  good: (message) => rate(message, 1),
  bad: (message) => rate(message, -1),
  save: (_, { file, name }) => save(`/api/attachments/${file}`, name),
};

/** Do what a button in the thread says. */
export async function act(event) {
  const button = event.target.closest("[data-do]");
  if (button) await DEEDS[button.dataset.do](thread.get(button.closest("li[data-id]").dataset.id), button.dataset);
}

async function step({ id, versions }, by) {
  await showBranch(versions[versions.indexOf(id) + by]);
}

/** Rate a message; once more takes it back. */
async function rate(message, rating) {
  const path = `/api/messages/${message.id}/rating`;
  if (message.rating === rating) await call("DELETE", path);
  else await call("PUT", path, { rating });
  thread.put([{ ...message, rating: message.rating === rating ? null : rating }]);
}
