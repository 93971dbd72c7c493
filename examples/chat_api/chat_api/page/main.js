// Which element does what.

import { go, show } from "./address.js";
import { token } from "./api.js";
import { attempt } from "./attempts.js";
import { fit, send } from "./composer.js";
import { $ } from "./elements.js";
import { follow } from "./live.js";
import { archive, move, pin, remove, rename, restore } from "./manage.js";
import { enter, signIn, start, takeLink } from "./session.js";
import { listen, showShortcuts } from "./shortcuts.js";
import { choose, moreConversations, newConversation } from "./sidebar.js";
import { moreMessages, pageUpwards } from "./thread.js";

$("new").addEventListener("click", attempt(newConversation));
$("more-conversations").addEventListener("click", attempt(moreConversations));
$("more-messages").addEventListener("click", attempt(moreMessages));
$("rename").addEventListener("click", attempt(rename));
$("delete").addEventListener("click", attempt(remove));
$("restore").addEventListener("click", attempt(() => restore()));
$("pin").addEventListener("click", attempt(pin));
$("archive").addEventListener("click", attempt(archive));
$("tenant").addEventListener("change", attempt(move));
for (const button of $("lists").children) button.addEventListener("click", attempt(() => choose(button.dataset.list)));
$("composer").addEventListener("submit", attempt(send));
$("show-shortcuts").addEventListener("click", showShortcuts);
$("sign-out").addEventListener("click", () => signIn());
$("keep-session").addEventListener("click", () => ($("link").hidden = true));
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

pageUpwards();
listen();
start();
