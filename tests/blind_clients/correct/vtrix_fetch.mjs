// Vtrix with Node's fetch: waits for 20 seconds, and remembers the task beside the output. Run it again to go on
// waiting: it never submits an order twice, as Vtrix has no idempotency keys. When the task ends, the note is deleted.
import { createHash } from "node:crypto";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const {
  HOBBYHORSE_BASE_URL,
  HOBBYHORSE_API_KEY: key,
  HOBBYHORSE_REQUEST: requestFile,
  HOBBYHORSE_OUTPUT: output,
  HOBBYHORSE_SPEED = "1",
} = process.env;
const speed = Number(HOBBYHORSE_SPEED) > 0 ? Number(HOBBYHORSE_SPEED) : 1;
const DEADLINE_MS = 20_000 / speed;
const started = performance.now();
const left = () => DEADLINE_MS - (performance.now() - started);
const within = (ms) => AbortSignal.timeout(Math.ceil(Math.max(250, ms))); // it takes integers only

class Stop extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind; // "failed": known to have no video; "timeout": not known yet
  }
}

let task; // for the last line

async function wait(seconds, why) {
  const ms = (seconds * 1000) / speed;
  if (ms >= left()) throw new Stop("timeout", `timed out after 20 s, task still running (${why}); run again to collect`);
  await sleep(ms);
}

function retryAfter(headers) {
  const value = headers.get("retry-after");
  if (!value) return 0;
  if (/^\d+$/.test(value)) return Number(value);
  const difference = Date.parse(value) - (Date.parse(headers.get("date")) || Date.now());
  return difference > 0 ? difference / 1000 : 0;
}

async function call(base, path, init = {}) {
  const response = await fetch(`${base}/model/v1/generation${path}`, {
    ...init,
    headers: { authorization: `Bearer ${key}`, ...init.headers },
    redirect: "manual",
    signal: within(Math.min(left(), 15_000)),
  });
  const text = await response.text();
  let body = {};
  try {
    body = JSON.parse(text) ?? {};
  } catch {}
  return { status: response.status, wait: retryAfter(response.headers), body, said: body.message ?? text.slice(0, 200) };
}

async function submit(note, base, order) {
  await remember(note, { base, task: null }); // before the request: from now on the outcome is open
  const notYet = async (seconds, why) => {
    if ((seconds * 1000) / speed >= left()) {
      await rm(note);
      throw new Stop("failed", `nothing was submitted: ${why}`);
    }
    await sleep((seconds * 1000) / speed);
  };
  for (let attempt = 1; ; attempt++) {
    let answer;
    try {
      const headers = { "content-type": "application/json" };
      answer = await call(base, "", { method: "POST", headers, body: order });
    } catch (error) {
      if (error.cause?.code !== "ECONNREFUSED")
        throw new Stop("failed", `submitted, but no response (${error.cause?.code ?? error.name}); not repeating it`);
      await notYet(2 ** attempt, "connection refused");
      continue;
    }
    if (answer.status === 429) {
      await notYet(answer.wait || attempt * 2, `rate limited: ${answer.said}`);
      continue;
    }
    if (answer.status >= 400 && answer.status < 500 && answer.status !== 408) {
      await rm(note);
      throw new Stop("failed", `submission refused: HTTP ${answer.status}: ${answer.said}`);
    }
    if (answer.status >= 300 || typeof answer.body.id !== "string")
      throw new Stop("failed", `submission unconfirmed: HTTP ${answer.status}: ${answer.said}`);
    await remember(note, { base, task: answer.body.id });
    return answer.body.id;
  }
}

async function remember(note, what) {
  await writeFile(`${note}.tmp`, JSON.stringify(what)); // never half a note
  await rename(`${note}.tmp`, note);
}

async function remembered(note) {
  try {
    return JSON.parse(await readFile(note, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw new Stop("failed", `cannot read ${note}, which may name a paid task: ${error.message}`);
  }
}

async function download(url) {
  try {
    const response = await fetch(url, { signal: within(left()) }); // without the key
    if (response.status !== 200) return null;
    const data = Buffer.from(await response.arrayBuffer());
    const view = { at: 0, boxes: [] };
    while (view.at + 8 <= data.length) {
      const size = data.readUInt32BE(view.at);
      view.boxes.push(data.toString("latin1", view.at + 4, view.at + 8));
      if (size === 0) view.at = data.length;
      else view.at += Math.max(8, size === 1 ? Number(data.readBigUInt64BE(view.at + 8)) : size);
    }
    return view.at === data.length && view.boxes[0] === "ftyp" && view.boxes.includes("moov") ? data : null;
  } catch {
    return null;
  }
}

async function collect(base) {
  for (let bad = 0; ; ) {
    let answer;
    try {
      answer = await call(base, `/task/${encodeURIComponent(task)}`);
    } catch {
      answer = { status: 0, wait: 0, body: {} };
    }
    const { status, body } = answer;
    if (status >= 300 && status < 500 && ![404, 408, 425, 429].includes(status))
      throw new Stop("failed", `HTTP ${status} for the task: ${answer.said}`);
    const state = status === 200 ? body.status : undefined;
    if (state === "failed")
      throw Object.assign(new Stop("failed", `the task failed: ${body.error?.code}: ${body.error?.message}`), { over: true });
    if (state === "completed") {
      const contents = (body.output ?? []).flatMap((entry) => entry?.content ?? []);
      const url = contents.find((content) => content?.type === "video")?.url;
      const data = url ? await download(url) : null;
      if (data) return data;
    }
    bad = state && state !== "completed" ? 0 : bad + 1;
    await wait(Math.max(answer.wait, bad ? Math.min(2 ** bad, 8) * (0.5 + Math.random() / 2) : 1), state ?? `HTTP ${status}`);
  }
}

async function main() {
  const order = await readFile(requestFile);
  const note = `${output}.${createHash("sha256").update(order).digest("hex").slice(0, 12)}.task.json`;
  const known = await remembered(note);
  if (known && !known.task)
    throw new Stop("failed", `an earlier run submitted this without learning the outcome; check, then delete ${note}`);
  const base = known?.base ?? HOBBYHORSE_BASE_URL.replace(/\/$/, ""); // a task lives where it was submitted
  task = known?.task ?? (await submit(note, base, order));
  let data;
  try {
    data = await collect(base);
  } catch (error) {
    if (error.over) await rm(note);
    throw error;
  }
  await writeFile(`${output}.tmp`, data);
  await rename(`${output}.tmp`, output);
  await rm(note);
}

try {
  await main();
  console.log(JSON.stringify({ class: "success", job: task }));
} catch (error) {
  console.error(task ? `task ${task}: ${error.message}` : error.message);
  console.log(JSON.stringify({ class: error.kind ?? "error", job: task, message: error.message }));
  process.exit(1);
}
