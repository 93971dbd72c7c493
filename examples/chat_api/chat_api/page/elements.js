// The elements of the page. It imports nothing, so that every other module may use it while it loads.

export const $ = (id) => document.getElementById(id);

/** Have it read out, without showing it. */
export function tell(text) {
  $("status").textContent = text;
}
