// The service as the page sees it: JSON, errors as problems, and server-sent events. EventSource is not used, for it
// sends no Authorization header, and a token in an address ends in logs.

export class Problem extends Error {
  constructor({ status = 0, detail = "The service cannot be reached.", type = "about:blank" } = {}) {
    super(detail);
    this.status = status;
    this.type = type;
  }
}

const KEPT = "chat_api.token";

export const token = {
  get: () => localStorage.getItem(KEPT),
  set: (value) => localStorage.setItem(KEPT, value),
  forget: () => localStorage.removeItem(KEPT),
};

async function request(method, path, { body, file, headers = {}, signal } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: {
        Authorization: `Bearer ${token.get()}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: file ?? (body === undefined ? undefined : JSON.stringify(body)),
    });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem();
  }
  if (!response.ok) {
    throw new Problem(await response.json().catch(() => ({ status: response.status, detail: response.statusText })));
  }
  return response;
}

export async function call(method, path, body) {
  const response = await request(method, path, { body });
  return response.status === 204 ? null : response.json();
}

/** Send a file as it is. */
export async function upload(path, file) {
  const response = await request("POST", path, { file, headers: { "Content-Type": "application/octet-stream" } });
  return response.json();
}

/** Save what the service sends as a file of this name. */
export async function save(path, name) {
  const response = await request("GET", path);
  const url = URL.createObjectURL(await response.blob());
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Yield {event, data} of each server-sent event; a stream that breaks off throws a Problem. */
export async function* events(method, path, options) {
  const response = await request(method, path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const fields = block.split("\n").map((line) => [line.split(":", 1)[0], line.slice(line.indexOf(":") + 1).trim()]);
        const data = fields.filter(([name]) => name === "data").map(([, field]) => field);
        if (data.length) {
          yield { event: fields.find(([name]) => name === "event")?.[1], data: JSON.parse(data.join("\n")) };
        }
      }
    }
  } catch (error) {
    throw error instanceof TypeError ? new Problem({ detail: "The connection was lost." }) : error;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** A key for one message. Not randomUUID: that exists on https and localhost alone. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
