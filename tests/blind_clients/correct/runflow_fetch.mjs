// Runflow with Node's fetch, two minutes in all. The API is one long POST, so the deadline is an AbortSignal.
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";

const env = process.env;
const speed = Math.max(Number(env.HOBBYHORSE_SPEED) || 1, 1e-3);
const model = env.HOBBYHORSE_MODEL || "alibaba/happy-horse/image-to-video";
const LIMIT = 120;
const deadline = AbortSignal.timeout(Math.ceil((LIMIT * 1000) / speed));

class Ended extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}
const late = (state) => new Ended("timeout", `timed out after ${LIMIT} s: ${state}`);

async function rest(seconds, state) {
  try {
    await delay((seconds * 1000) / speed, undefined, { signal: deadline });
  } catch {
    throw late(state);
  }
}

function retryAfter({ headers }, otherwise) {
  const value = headers.get("retry-after")?.trim();
  if (!value) return otherwise;
  if (/^\d+$/.test(value)) return Number(value);
  const seconds = (Date.parse(value) - (Date.parse(headers.get("date")) || Date.now())) / 1000;
  return Number.isNaN(seconds) ? otherwise : Math.max(0, seconds);
}

async function run(order) {
  for (let attempt = 1; attempt <= 6; attempt++) {
    let response;
    let text;
    try {
      response = await fetch(`${env.HOBBYHORSE_BASE_URL.replace(/\/$/, "")}/v1/run/${model}`, {
        method: "POST",
        headers: { authorization: `Bearer ${env.HOBBYHORSE_API_KEY}`, "content-type": "application/json" },
        body: order,
        redirect: "manual",
        signal: deadline,
      });
      text = await response.text();
    } catch (error) {
      if (deadline.aborted) throw late("the run may still be running, and is billed if it succeeds");
      const code = error.cause?.code ?? error.name;
      if (["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"].includes(code)) {
        await rest(attempt, `no connection (${code}), no run was started`);
        continue;
      }
      throw new Ended("error", `connection lost (${code}): the run may exist, so it is not started again`);
    }
    if (response.status === 429) {
      await rest(retryAfter(response, 2 ** attempt), "rate limited, no run was started");
      continue;
    }
    return { response, text };
  }
  throw new Ended("failed", "six refusals, no run was started");
}

function urlOf({ response, text }) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Ended("error", `HTTP ${response.status} without JSON; the run may exist, so it is not started again`);
  }
  const url = body?.video?.url;
  if (response.ok && typeof url === "string" && /^https?:/.test(url)) return url;
  const errors = body?.errors ? ` ${JSON.stringify(body.errors)}` : "";
  throw new Ended("failed", `HTTP ${response.status} ${body?.code ?? ""}: ${body?.message ?? text.slice(0, 200)}${errors}`);
}

// Stream to disk, and go on where the last attempt broke off, if the server agrees that it is the same file.
async function download(url, file) {
  let problem = "";
  let etag = null;
  await rm(file, { force: true });
  for (let attempt = 0; attempt < 6; attempt++) {
    const have = await stat(file).then(({ size }) => size, () => 0);
    const headers = have && etag ? { range: `bytes=${have}-`, "if-range": etag } : {};
    let wait = 2 ** attempt;
    try {
      const response = await fetch(url, { headers, signal: deadline }); // no key here
      if (response.status === 200 || response.status === 206) {
        const resumed = response.status === 206;
        if (resumed && !response.headers.get("content-range")?.startsWith(`bytes ${have}-`)) throw new Error("wrong range");
        etag = response.headers.get("etag");
        const out = createWriteStream(file, { flags: resumed ? "a" : "w" });
        try {
          for await (const chunk of response.body) if (!out.write(chunk)) await once(out, "drain");
        } finally {
          out.end();
          await once(out, "close");
        }
        if (await isComplete(file)) return;
        problem = "incomplete";
        etag = null; // all of it, but bad: start from the beginning
      } else {
        problem = `HTTP ${response.status}`;
        wait = retryAfter(response, wait);
        if (response.status === 416) etag = null;
      }
    } catch (error) {
      problem = error.cause?.code ?? error.message;
    }
    await rest(wait, `the run succeeded, the download has not (${problem})`);
  }
  throw new Ended("failed", `the run succeeded and is billed, but the download fails: ${problem}`);
}

async function isComplete(file) {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const head = Buffer.alloc(16);
    for (let at = 0; at < size; ) {
      const { bytesRead } = await handle.read(head, 0, 16, at);
      if (bytesRead < 8 || (at === 0 && head.toString("latin1", 4, 8) !== "ftyp")) return false;
      const length = head.readUInt32BE(0) === 1 ? Number(head.readBigUInt64BE(8)) : head.readUInt32BE(0);
      at += length === 0 ? size - at : Math.max(length, 8);
      if (at >= size) return at === size;
    }
    return false;
  } finally {
    await handle.close();
  }
}

try {
  const url = urlOf(await run(await readFile(env.HOBBYHORSE_REQUEST)));
  await download(url, `${env.HOBBYHORSE_OUTPUT}.part`);
  await rename(`${env.HOBBYHORSE_OUTPUT}.part`, env.HOBBYHORSE_OUTPUT);
} catch (error) {
  await rm(`${env.HOBBYHORSE_OUTPUT}.part`, { force: true });
  console.error(error.kind ? error.message : error);
  console.log(JSON.stringify({ class: error.kind ?? "error", message: error.message }));
  process.exit(1);
}
