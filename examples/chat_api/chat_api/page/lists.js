// Rows that stand in an order and change while somebody reads them. What came from people is set as text; a reply is
// HTML that the service made of it and sanitised.

const time = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

function tell(element, iso) {
  const at = new Date(iso);
  element.dateTime = iso;
  element.textContent = (at.toDateString() === new Date().toDateString() ? time : day).format(at);
}

/** Keeps a list's elements in the order of their rows' cursors, and touches none that need not move. */
class Rows {
  constructor(list, template, descending) {
    this.list = list;
    this.template = template.content.firstElementChild;
    this.sign = descending ? -1 : 1;
    this.rows = new Map();
  }

  clear() {
    this.rows.clear();
    this.list.replaceChildren();
  }

  /** Add rows, or bring them up to date; `reset` drops those that are not among them, but for `keep`. */
  put(items, { reset = false, keep = null } = {}) {
    const wanted = new Set([keep, ...items.map((item) => item.id)]);
    if (reset) for (const id of [...this.rows.keys()]) if (!wanted.has(id)) this.remove(id);
    for (const item of items) {
      const known = this.rows.get(item.id);
      if (known && JSON.stringify(known.item) === JSON.stringify(item)) continue; // somebody may be selecting its text
      const element = known?.element ?? this.template.cloneNode(true);
      element.dataset.id = item.id;
      const [place, tie] = item.cursor.split("_");
      this.rows.set(item.id, { item, element, place: Number(place), tie });
      this.fill(element, item);
    }
    const focused = document.activeElement;
    this.sorted().forEach(({ element }, index) => {
      if (this.list.children[index] !== element) this.list.insertBefore(element, this.list.children[index] ?? null);
    });
    if (this.list.contains(focused)) focused.focus({ preventScroll: true }); // an element that moves loses it
  }

  sorted() {
    return [...this.rows.values()].sort((a, b) => this.sign * this.compare(a, b));
  }

  compare(a, b) {
    return a.place - b.place || this.compareTies(a.tie, b.tie);
  }

  ids() {
    return this.sorted().map(({ item }) => item.id);
  }

  has(id) {
    return this.rows.has(id);
  }

  get(id) {
    return this.rows.get(id)?.item;
  }

  element(id) {
    return this.rows.get(id)?.element;
  }

  remove(id) {
    this.rows.get(id)?.element.remove();
    this.rows.delete(id);
  }

  get size() {
    return this.rows.size;
  }
}

/** The list that a conversation is in. */
export function listOf({ archived_at, deleted_at }) {
  return deleted_at ? "trash" : archived_at ? "archive" : "inbox";
}

export class Conversations extends Rows {
  tenants = new Map();
  known = new Map(); // id -> the conversation, in whichever list it is
  which = "inbox";
  selected = null;

  constructor(list, template) {
    super(list, template, true);
  }

  /** Take them up; those of another list leave this one. */
  put(items, options) {
    for (const item of items) {
      this.known.set(item.id, item);
      if (listOf(item) !== this.which) this.leave(item.id);
    }
    super.put(
      items.filter((item) => listOf(item) === this.which),
      options,
    );
    this.select(this.selected);
  }

  get(id) {
    return this.known.get(id);
  }

  leave(id) {
    super.remove(id);
  }

  remove(id) {
    this.known.delete(id);
    super.remove(id);
  }

  compare(a, b) {
    const pinned = ({ item }) => (this.which === "inbox" && item.pinned_at ? Date.parse(item.pinned_at) : 0);
    return pinned(a) - pinned(b) || super.compare(a, b);
  }

  compareTies(a, b) {
    return a < b ? -1 : a > b ? 1 : 0;
  }

  fill(element, { id, title, tenant_id, updated_at, pinned_at, unread }) {
    element.querySelector("a").href = `/c/${id}`;
    element.querySelector(".name").textContent = title?.trim() || "Untitled";
    element.querySelector(".tenant").textContent = this.tenants.get(tenant_id) ?? "";
    element.querySelector(".pinned").hidden = !pinned_at;
    element.querySelector(".unread").hidden = !unread || id === this.selected;
    element.querySelector(".unread").textContent = unread > 99 ? "99+ unread" : `${unread} unread`;
    tell(element.querySelector("time"), updated_at);
  }

  select(id) {
    this.selected = id;
    for (const [each, { element, item }] of this.rows) {
      const link = element.querySelector("a");
      if (each === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
      this.fill(element, item);
    }
  }
}

/** How a reply stands, for people; empty where it is whole. */
function stateOf({ status, error }) {
  if (status === "streaming") return "Being written…";
  if (status === "interrupted") return "This reply was interrupted.";
  return status === "error" ? `This reply broke off. ${error ?? ""}`.trim() : "";
}

const SPEAKERS = { user: "You", assistant: "Reply", agent: "Agent", system: "System", tool: "Tool" };

export class Messages extends Rows {
  constructor(list, template) {
    super(list, template, false);
  }

  compareTies(a, b) {
    return Number(a) - Number(b);
  }

  fill(element, message) {
    const { id, role, status, content, html, attachments, rating, versions, created_at } = message;
    const broken = status === "interrupted" || status === "error";
    element.className = role;
    element.querySelector(".state").hidden = !stateOf(message);
    element.querySelector(".state").classList.toggle("broken", broken);
    element.querySelector(".state span").textContent = stateOf(message);
    element.querySelector(".state button").hidden = !broken;
    element.querySelector("[data-do=edit]").hidden = role !== "user";
    element.querySelector("[data-do=again]").hidden = broken || (role !== "assistant" && role !== "agent");
    element.querySelector(".versions").hidden = versions.length < 2;
    element.querySelector(".version").textContent = `${versions.indexOf(id) + 1} of ${versions.length}`;
    element.querySelector("[data-do=previous]").disabled = versions[0] === id;
    element.querySelector("[data-do=next]").disabled = versions.at(-1) === id;
    element.querySelector(".files").replaceChildren(...attachments.map((file) => this.fileOf(file)));
    for (const [name, value] of [["good", 1], ["bad", -1]]) {
      const button = element.querySelector(`[data-do=${name}]`);
      button.hidden = role === "user";
      button.setAttribute("aria-pressed", rating === value);
    }
    element.querySelector(".who").textContent = `${SPEAKERS[role]}: `;
    const text = element.querySelector(".content");
    text.classList.toggle("rendered", html !== null);
    if (html === null) text.textContent = content;
    else text.innerHTML = html;
    tell(element.querySelector("time"), created_at);
  }

  fileOf({ id, name, size_bytes }) {
    const row = document.getElementById("file-template").content.firstElementChild.cloneNode(true);
    row.firstElementChild.textContent = `${name} (${size_bytes.toLocaleString()} bytes)`;
    Object.assign(row.firstElementChild.dataset, { do: "save", file: id, name });
    return row;
  }

  /** Return an element for a reply that is still being written; it stands in no order yet. */
  pending() {
    const element = this.template.cloneNode(true);
    element.className = "assistant pending";
    for (const each of element.querySelectorAll(".tools, .state")) each.remove();
    element.querySelector(".who").textContent = "Reply: ";
    return element;
  }

  /** Drop a message and all that follow, but for those of `kept`. */
  dropFrom(id, kept = []) {
    const rest = this.ids().slice(id && this.has(id) ? this.ids().indexOf(id) : this.size);
    for (const each of rest) if (!kept.some((item) => item.id === each)) this.remove(each);
  }

  get last() {
    return this.sorted().at(-1)?.item;
  }
}
