// What can be done with a message: rate it, save its files.

import { call, save } from "./api.js";
import { thread } from "./thread.js";

const DEEDS = {
  good: (message) => rate(message, 1),
  bad: (message) => rate(message, -1),
  save: (_, { file, name }) => save(`/api/attachments/${file}`, name),
};

/** Do what a button in the thread says. */
export async function act(event) {
  const button = event.target.closest("[data-do]");
  if (button) await DEEDS[button.dataset.do](thread.get(button.closest("li[data-id]").dataset.id), button.dataset);
}

/** Rate a message; once more takes it back. */
async function rate(message, rating) {
  const path = `/api/messages/${message.id}/rating`;
  if (message.rating === rating) await call("DELETE", path);
  else await call("PUT", path, { rating });
  thread.put([{ ...message, rating: message.rating === rating ? null : rating }]);
}
