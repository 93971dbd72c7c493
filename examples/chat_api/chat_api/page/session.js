// Who uses the page: a token, from a link or pasted, kept in the browser's storage for this origin.

import { show } from "./address.js";
import { call, token } from "./api.js";
import { report } from "./attempts.js";
import { $ } from "./elements.js";
import { follow, unfollow } from "./live.js";
import { refreshSidebar, sidebar } from "./sidebar.js";

export function start() {
  takeLink();
  if (token.get()) enter();
  else signIn();
}

/** Take the token out of the address: neither in the history nor in a copied address. It ends no session in use: whoever
 * made the link could have somebody write into an account that is not theirs. */
export function takeLink() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return false;
  history.replaceState(null, "", location.pathname);
  const kept = token.get();
  if (!kept) token.set(given);
  $("link").hidden = !kept || kept === given;
  $("use-link").onclick = () => {
    unfollow();
    token.forget();
    token.set(given);
    location.replace("/"); // from nothing, so that no window shows one what the other wrote
  };
  return !kept;
}

export function signIn(reason) {
  unfollow();
  token.forget();
  $("app").hidden = true;
  $("sign-in").hidden = false;
  if (reason) $("sign-in-reason").textContent = `${reason} Sign in again with a new link or token.`;
  $("token").focus();
}

export async function enter() {
  try {
    const me = await call("GET", "/api/me");
    $("who").textContent = me.email ?? "Guest";
    sidebar.tenants = new Map(me.tenants.map(({ id, name }) => [id, name]));
    $("where").replaceChildren(new Option("New ones are personal", ""));
    $("where").append(...me.tenants.map(({ id, name }) => new Option(`New ones in ${name}`, id)));
    $("tenant").replaceChildren(new Option("me alone", ""), ...me.tenants.map(({ id, name }) => new Option(name, id)));
    $("where").hidden = $("move").hidden = !me.tenants.length;
    await refreshSidebar();
    $("sign-in").hidden = true;
    $("app").hidden = false;
    await show();
    follow();
  } catch (error) {
    report(error);
  }
}
