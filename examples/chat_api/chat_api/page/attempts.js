// What to do when something fails, and how to ask.

import { Problem } from "./api.js";
import { $ } from "./elements.js";
import { signIn } from "./session.js";

/** Tell of an error, with a button for another try where that may help. */
export function report(error, again) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401) return signIn(error.message);
  $("app").hidden = false;
  if (again) offer(error.message, "Try again", again);
  else $("alert").replaceChildren(error.message);
}

/** Say something, with a button that does something about it. */
export function offer(text, label, action) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", action);
  $("alert").replaceChildren(text, " ", button);
}

/** Return what does `action` on an event, and reports what goes wrong. */
export function attempt(action) {
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

/** Show a dialog; return whether it was answered with its button. */
export function ask(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.querySelector(".cancel").onclick = () => dialog.close();
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
    dialog.showModal();
  });
}
