// HiAPI with Node's fetch: ten minutes; a callback, with polling as the fall-back; survives being killed.
//
// Before the submission, the idempotency key is written beside the output. A restarted process submits with the same
// key, to the same API, and gets the same task. The file is deleted when the task has ended.
import { createHash, createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import { readFile, rename, unlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const env = process.env;
const SPEED = Number(env.HOBBYHORSE_SPEED) || 1;
const real = (seconds) => Math.ceil((seconds * 1000) / SPEED);
const DEADLINE = 600;
const end = Date.now() + real(DEADLINE);

class TaskError extends Error {
  constructor(message, { outcome = "failed", final = false } = {}) {
    super(message);
    this.outcome = outcome;
    this.final = final; // the order is settled, nothing is left to collect
  }
}

function timeLeft(wait, why) {
  if (Date.now() + wait >= end)
    throw new TaskError(`deadline of ${DEADLINE} s passed, still running: ${why}`, { outcome: "timeout" });
}

/* ---- the callback ---- */

function listen(url, secret) {
  const seen = new Set();
  let wake = () => {};
  const server = createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      const timestamp = request.headers["x-hiapi-timestamp"] ?? "";
      const expected = createHmac("sha256", secret).update(`${timestamp}.`).update(body).digest();
      const given = Buffer.from(String(request.headers["x-hiapi-signature"] ?? ""), "hex");
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) return response.writeHead(401).end();
      response.writeHead(204).end();
      try {
        seen.add(JSON.parse(body.toString()).taskId); // a set: callbacks may be repeated
        wake();
      } catch {}
    });
  });
  return new Promise((resolve) => {
    server.once("error", () => resolve(null));
    server.listen({ host: new URL(url).hostname, port: Number(new URL(url).port || 80) }, () =>
      resolve({
        close: () => (server.close(), server.closeAllConnections()),
        // Resolves when the task's callback has come, or after the time
        async wait(task, ms) {
          if (seen.has(task)) return true;
          const abort = new AbortController();
          const woken = new Promise((done) => (wake = () => seen.has(task) && done(true)));
          const late = sleep(ms, false, { signal: abort.signal }).catch(() => false);
          return Promise.race([woken, late]).finally(() => abort.abort());
        },
      }),
    );
  });
}

/* ---- the API ---- */

function retryAfter(headers) {
  const value = headers.get("retry-after") ?? "";
  if (/^\d+$/.test(value)) return Number(value);
  const now = Date.parse(headers.get("date") ?? "") || Date.now();
  return Math.max(0, (Date.parse(value) - now) / 1000) || 0;
}

async function api(base, path, options = {}) {
  try {
    const response = await fetch(`${base}${path}`, {
      ...options,
      headers: { authorization: `Bearer ${env.HOBBYHORSE_API_KEY}`, ...options.headers },
      redirect: "manual",
      signal: AbortSignal.timeout(Math.max(500, Math.min(real(30), end - Date.now()))),
    });
    const text = await response.text();
    const wait = retryAfter(response.headers);
    let body = null;
    try {
      body = JSON.parse(text);
    } catch {}
    if (!response.ok) return { code: response.status, message: body?.message ?? text.slice(0, 200), wait };
    if (typeof body?.code === "number" && body.code !== 200) return { code: body.code, message: body.message, wait };
    if (body?.data && typeof body.data === "object") return { code: 200, data: body.data, wait };
    return { code: 0, message: `unusable response: ${text.slice(0, 100)}`, wait };
  } catch (error) {
    return { code: 0, message: error.cause?.code ?? error.message, wait: 0 };
  }
}

const passing = (code) => code === 0 || code >= 500 || [408, 409, 425, 429].includes(code);

async function submit(base, order, key) {
  for (let attempt = 1; attempt <= 10; attempt++) {
    const headers = { "content-type": "application/json", "idempotency-key": key };
    const { code, data, message, wait } = await api(base, "/v1/tasks", { method: "POST", headers, body: order });
    if (typeof data?.taskId === "string") return data.taskId;
    if (code !== 200 && !passing(code)) throw new TaskError(`refused: ${code}: ${message}`, { final: true });
    const pause = real(Math.max(wait, Math.min(2 ** attempt / 2, 20)));
    timeLeft(pause, `submission unconfirmed (${code}: ${message})`);
    await sleep(pause);
  }
  throw new TaskError(`submission unconfirmed after 10 attempts with the idempotency key ${key}`);
}

async function download(output) {
  const entry = Array.isArray(output) ? output.find((one) => one?.type === "video") ?? output[0] : undefined;
  if (typeof entry?.url !== "string") return null;
  try {
    const response = await fetch(entry.url, { signal: AbortSignal.timeout(Math.max(500, end - Date.now())) });
    if (response.status !== 200) return null;
    const data = Buffer.from(await response.arrayBuffer());
    let at = 0;
    while (at + 8 <= data.length) {
      if (at === 0 && data.toString("latin1", 4, 8) !== "ftyp") return null;
      const size = data.readUInt32BE(at);
      at = size === 0 ? data.length : at + Math.max(8, size === 1 ? Number(data.readBigUInt64BE(at + 8)) : size);
    }
    return at === data.length ? data : null;
  } catch {
    return null;
  }
}

async function collect(base, task, callbacks) {
  let bad = 0;
  for (;;) {
    const { code, data, message, wait } = await api(base, `/v1/tasks/${encodeURIComponent(task)}`);
    if (data?.status === "fail") {
      throw new TaskError(`failed: ${JSON.stringify(data.error ?? "no reason given")}`, { final: true });
    }
    if (code !== 200 && code !== 404 && !passing(code)) throw new TaskError(`polling refused: ${code}: ${message}`);
    if (data?.status === "success") {
      const video = await download(data.output);
      if (video) return video;
    }
    bad = data && data.status !== "success" ? 0 : bad + 1;
    const pause = real(Math.max(wait, bad ? Math.min(2 ** bad, 30) : callbacks ? 10 : 4));
    timeLeft(pause, data?.status ?? `${code}: ${message}`);
    if (bad || !callbacks) await sleep(pause);
    else if (await callbacks.wait(task, pause)) await sleep(real(0.5)); // the callback is a hint, the API has the word
  }
}

async function recall(note) {
  try {
    return JSON.parse(await readFile(note, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error; // not a reason to order once more
  }
}

async function remember(note, state) {
  await writeFile(`${note}.new`, JSON.stringify(state));
  await rename(`${note}.new`, note);
}

async function main() {
  let order = await readFile(env.HOBBYHORSE_REQUEST, "utf8");
  const note = `${env.HOBBYHORSE_OUTPUT}.${createHash("sha256").update(order).digest("hex").slice(0, 16)}.hiapi.json`;
  const url = env.HOBBYHORSE_CALLBACK_URL;
  const callbacks = url && env.HOBBYHORSE_CALLBACK_SECRET ? await listen(url, env.HOBBYHORSE_CALLBACK_SECRET) : null;
  if (callbacks) order = JSON.stringify({ ...JSON.parse(order), callback: { url, when: "final" } });
  let state = await recall(note);
  if (state === null) {
    state = { base: env.HOBBYHORSE_BASE_URL.replace(/\/+$/, ""), key: randomUUID(), order };
    await remember(note, state);
  }
  try {
    if (!state.task) {
      state.task = await submit(state.base, state.order, state.key);
      await remember(note, state);
    }
    const video = await collect(state.base, state.task, callbacks);
    await writeFile(`${env.HOBBYHORSE_OUTPUT}.part`, video);
    await rename(`${env.HOBBYHORSE_OUTPUT}.part`, env.HOBBYHORSE_OUTPUT);
    await unlink(note);
    return { class: "success", job: state.task };
  } catch (error) {
    if (error.final) await unlink(note);
    const kind = error.outcome ?? "error";
    return { class: kind, job: state.task, error: `task ${state.task ?? "unknown"}: ${error.message}` };
  } finally {
    callbacks?.close();
  }
}

const result = await main();
if (result.error) console.error(result.error);
console.log(JSON.stringify(result));
process.exitCode = result.class === "success" ? 0 : 1;
