// What a link shows: a conversation to read, for whoever has the link. It knows no token of a user and sends none.

const $ = (id) => document.getElementById(id);
const token = location.pathname.split("/").pop();
let after = null;

async function more() {
  const asked = `/api/shared/${token}${after ? `?after=${after}` : ""}`;
  const response = await fetch(asked).catch(() => null);
  const page = await response?.json();
  if (!response?.ok) {
    $("alert").textContent = page?.detail ?? "The service cannot be reached.";
    return;
  }
  document.title = $("title").textContent = page.title?.trim() || "A conversation";
  for (const { role, content, html, cursor } of page.items) {
    const element = $("message-template").content.firstElementChild.cloneNode(true);
    element.className = role;
    element.querySelector(".who").textContent = role === "user" ? "Question: " : "Reply: ";
    const text = element.querySelector(".content");
    text.classList.toggle("rendered", html !== null);
    if (html === null) text.textContent = content;
    else text.innerHTML = html;
    $("messages").append(element);
    after = cursor;
  }
  $("more-messages").hidden = !page.more;
}

$("more-messages").addEventListener("click", more);
more();
