// The keyboard. Each of these needs a modifier, so that nobody who writes or dictates presses one by accident.

import { attempt } from "./attempts.js";
import { $ } from "./elements.js";
import { newConversation, step } from "./sidebar.js";

const mac = navigator.platform.startsWith("Mac");
const main = mac ? "⌘" : "Ctrl";

const SHORTCUTS = [
  { keys: [main, "Shift", "O"], code: "KeyO", what: "Begin a conversation", action: newConversation },
  { keys: ["Alt", "↑"], code: "ArrowUp", what: "Open the conversation above", action: () => step(-1) },
  { keys: ["Alt", "↓"], code: "ArrowDown", what: "Open the conversation below", action: () => step(1) },
  { keys: ["Shift", "Esc"], code: "Escape", what: "Go to the message box", action: () => $("text").focus() },
  { keys: [main, "/"], code: "Slash", what: "Show this list", action: showShortcuts },
];

export function showShortcuts() {
  $("shortcuts").showModal();
}

function pressed({ keys, code }, event) {
  return (
    (event.code === code || event.key === keys.at(-1)) &&
    (mac ? event.metaKey : event.ctrlKey) === keys.includes(main) &&
    event.shiftKey === keys.includes("Shift") &&
    event.altKey === keys.includes("Alt")
  );
}

export function listen() {
  for (const { keys, what } of SHORTCUTS) {
    const row = $("shortcut-template").content.firstElementChild.cloneNode(true);
    row.querySelector("th").textContent = what;
    row.querySelector("td").append(...keys.map((key) => Object.assign(document.createElement("kbd"), { textContent: key })));
    $("shortcut-rows").append(row);
  }
  document.addEventListener("keydown", (event) => {
    const shortcut = SHORTCUTS.find((one) => pressed(one, event));
    if (!shortcut || $("app").hidden || document.querySelector("dialog[open]")) return;
    attempt(shortcut.action)(event);
  });
}
