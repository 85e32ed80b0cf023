// Generate a video with HiAPI: submit, poll and download. One file to copy; it needs Node 20 and nothing else.
import { createHash, randomUUID } from "node:crypto";
import { lookup } from "node:dns/promises";
import { existsSync, readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { BlockList, isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const LONGEST_WAIT = 600, KEY_LIFE = 86000, GRACE = 60; // seconds; HiAPI forgets a key after 24 hours
const LEAST_INTERVAL = 1, INTERVAL = 3, LONGEST_INTERVAL = 10; // seconds between polls; the interval grows by a quarter after each
const TRIES = 5; // per submission, and per download
const TOLERATED = { refused: 1, missing: 3, useless: 4, troubled: 8 }; // bad responses in a row that the wait survives
const SPEED = Number(process.env.HOBBYHORSE_SPEED || 1); // of the fake server's clock; 1 for a real provider

const PRIVATE = new BlockList();
for (const range of ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
  "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"]) {
  PRIVATE.addSubnet(range.split("/")[0], Number(range.split("/")[1]), "ipv4");
}
const OPEN = new BlockList(); // only this part of IPv6 is public
OPEN.addSubnet("2000::", 3, "ipv6");

/** No video was returned. `outcome` is failed (final), timeout (the job goes on) or error (the outcome is unknown). */
class Failed extends Error {
  constructor(outcome, job, why) {
    super(`job ${job ?? "unknown"}: ${why}`);
    Object.assign(this, { outcome, job });
  }
}

const now = () => (performance.now() / 1000) * SPEED;
const describe = (response) => (response.status > 0 ? `status ${response.status}: ${response.body.toString().slice(0, 300)}` : "no response");

/** Send a request; its whole response must arrive `within` seconds, or its status is 0. Never redirect: the key would go along. */
async function send(method, url, options = {}, within = 30) {
  try {
    const response = await fetch(url, { method, redirect: "manual", signal: AbortSignal.timeout(within * 1000), ...options });
    const body = Buffer.from(await response.arrayBuffer());
    return { status: response.status, body, again: seconds(response.headers.get("retry-after")) };
  } catch (error) {
    const unsent = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"].includes(error.cause?.code);
    return { status: unsent ? -1 : 0, body: Buffer.alloc(0), again: null };
  }
}

/** Return the seconds until the moment of a Retry-After, which is a number or a date; null if there is none. */
function seconds(value) {
  if (!value) return null;
  // An HTTP-date is in GMT, also in the old form that does not say so.
  const date = () => Date.parse(value.endsWith("GMT") ? value : `${value} GMT`);
  const wanted = /^\d+$/.test(value) ? Number(value) : (date() - Date.now()) / 1000;
  return Number.isFinite(wanted) ? wanted : null;
}

/** Return the object under `data` in a 2xx response; an empty one if there is none. */
function data(response) {
  try {
    const value = response.status >= 200 && response.status < 300 ? JSON.parse(response.body.toString()).data : null;
    return value && typeof value === "object" ? value : {};
  } catch {
    return {};
  }
}

/** Sleep for the Retry-After, else for the interval; return false if the deadline comes first. */
async function pause(response, interval, deadline) {
  const left = deadline - now();
  if (left < LEAST_INTERVAL || (response.again ?? 0) > left) return false;
  const wait = response.again === null ? interval * (1 + Math.random() / 4) : Math.max(response.again * 1.02, LEAST_INTERVAL);
  await sleep(((wait < left - LEAST_INTERVAL ? wait : left) / SPEED) * 1000); // the last poll falls on the deadline
  return true;
}

/** Submit, and return the job's id. After a lost response, submit again with the same key, which HiAPI replays. */
async function submit(note, headers, deadline) {
  let response = { again: null }, doubt = note.doubt;
  const order = { body: JSON.stringify(note.request), headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": note.key } };
  for (let number = 0; number < TRIES; number++) {
    if (number && !(await pause(response, 2 ** number, deadline))) break;
    response = await send("POST", `${note.base_url}/v1/tasks`, order);
    const job = data(response).taskId;
    if (typeof job === "string" && job) return job;
    const refused = response.status >= 300 && response.status < 500;
    const underWay = response.status === 409 && response.body.includes("IDEMPOTENCY_KEY_PROCESSING");
    doubt ||= !([-1, 429, 503].includes(response.status) || (refused && ![408, 409].includes(response.status)));
    if ((refused && !underWay && ![408, 425, 429].includes(response.status)) || response.body.includes("TASK_FAILED")) break;
  }
  throw new Failed(doubt ? "error" : "failed", null, `the submission with the key ${note.key} was not accepted: ${describe(response)}`);
}

/** Poll until the job has succeeded; return the video's URL, empty if there is none. */
async function wait(note, headers, deadline) {
  let response = { again: null, status: 0 }, interval = INTERVAL, seen = false, failures = {};
  while (await pause(response, interval, deadline)) {
    response = await send("GET", `${note.base_url}/v1/tasks/${encodeURIComponent(note.job)}`, { headers });
    const { status: stage, output } = data(response);
    if (stage === "success") {
      const outputs = Array.isArray(output) ? output : [];
      const url = (outputs.find((one) => one?.type === "video") ?? outputs[0])?.url;
      return typeof url === "string" ? url : "";
    }
    if (stage === "fail") throw new Failed("failed", note.job, describe(response));
    if (typeof stage === "string" && stage) { // in progress, or an undocumented stage
      [seen, failures] = [true, {}];
    } else {
      const kind = classify(response.status, seen);
      failures[kind] = (failures[kind] ?? 0) + 1;
      if (failures[kind] > TOLERATED[kind]) throw new Failed("error", note.job, `its status cannot be read: ${describe(response)}`);
    }
    interval = Math.min(interval * 1.25, LONGEST_INTERVAL);
  }
  throw new Failed("timeout", note.job, `it is not done after ${LONGEST_WAIT} s; last response: ${describe(response)}`);
}

/** Classify a response without a stage; `seen`: an earlier response had one. */
function classify(status, seen) {
  if (status <= 0 || status >= 500 || [408, 425, 429].includes(status)) return "troubled";
  if (status < 300) return "useless";
  return status === 404 && !seen ? "missing" : "refused";
}

/** Download the video without the key; return null if the link has expired. */
async function download(note, url) {
  if (!(await isPublic(url, note.base_url))) throw new Failed("error", note.job, "the URL of its video is not public");
  let response = { again: null };
  const deadline = now() + LONGEST_WAIT;
  for (let number = 0; number < TRIES; number++) {
    if (number && !(await pause(response, 2 ** number, deadline))) break;
    response = await send("GET", url, {}, 300);
    if (response.status === 200 && isMp4(response.body)) return response.body;
    if (response.status === 403 || response.status === 410) return null;
  }
  throw new Failed("error", note.job, `its video cannot be downloaded: status ${response.status}, ${response.body.length} bytes`);
}

/** Return whether a URL is safe to fetch: http(s), on a public address or on the API's own host. */
async function isPublic(url, base) {
  try {
    const { protocol, hostname } = new URL(url);
    if (!["http:", "https:"].includes(protocol)) return false;
    if (hostname === new URL(base).hostname) return true;
    const name = hostname.replace(/^\[|\]$/g, "");
    const found = isIP(name) ? [{ address: name, family: isIP(name) }] : await lookup(name, { all: true });
    return found.every(({ address, family }) => (family === 4 ? !PRIVATE.check(address) : OPEN.check(address, "ipv6")));
  } catch {
    return false;
  }
}

/** Return whether bytes are a complete MP4 file: its boxes fill it exactly. */
function isMp4(bytes) {
  const kinds = [];
  let at = 0;
  while (at + 8 <= bytes.length) {
    let size = bytes.readUInt32BE(at);
    if (size === 1) size = at + 16 <= bytes.length ? Number(bytes.readBigUInt64BE(at + 8)) : 0;
    else if (size === 0) size = bytes.length - at;
    kinds.push(bytes.toString("latin1", at + 4, at + 8));
    at += Math.max(size, 8);
  }
  return at === bytes.length && kinds[0] === "ftyp" && kinds.includes("moov") && kinds.includes("mdat");
}

/** Write a file atomically. */
function save(path, content) {
  writeFileSync(`${path}.part`, content);
  renameSync(`${path}.part`, path);
}

/** Submit if the note has no job, saving the note before and after; wait for the job; return its video. */
async function collect(apiKey, note, keep) {
  const headers = { Authorization: `Bearer ${apiKey}` };
  let deadline = now() + LONGEST_WAIT, url = "";
  if (!note.job) {
    if (Date.now() / 1000 - note.ordered > KEY_LIFE) throw new Failed("error", null, `the key ${note.key} is too old: HiAPI would not replay it, but make a second job`);
    keep({ ...note, doubt: true });
    note = { ...note, job: await submit(note, headers, deadline) };
    keep(note);
  }
  const repeated = new Set();
  while (true) { // a missing URL gets one more poll, and so does an expired one
    url = await wait(note, headers, deadline);
    const video = url ? await download(note, url) : null;
    if (video) return { job: note.job, video };
    if (repeated.has(Boolean(url))) break;
    repeated.add(Boolean(url));
    deadline = Math.max(deadline, now() + GRACE);
  }
  throw new Failed(url ? "error" : "failed", note.job, "it has succeeded, but its video is missing");
}

const { HOBBYHORSE_BASE_URL: base, HOBBYHORSE_API_KEY: key, HOBBYHORSE_REQUEST: requestFile, HOBBYHORSE_OUTPUT: output } = process.env;
const noteFile = `${output}.job`, resume = process.argv.includes("--resume");
try {
  const request = JSON.parse(readFileSync(requestFile, "utf8"));
  if (resume && !existsSync(noteFile)) throw new Failed("failed", null, `nothing to resume: ${noteFile} does not exist`);
  const fresh = { base_url: base.replace(/\/+$/, ""), request, key: randomUUID(), job: null, doubt: false, ordered: Date.now() / 1000 };
  const note = existsSync(noteFile) ? JSON.parse(readFileSync(noteFile, "utf8")) : fresh;
  if (!resume && JSON.stringify(note.request) !== JSON.stringify(request)) throw new Failed("error", note.job, `${noteFile} belongs to another request: --resume collects its job`);
  const { job, video } = await collect(key, note, (changed) => save(noteFile, JSON.stringify(changed)));
  save(output, video);
  unlinkSync(noteFile);
  console.log(JSON.stringify({ job, class: "success", id_exposed: true, sha256: createHash("sha256").update(video).digest("hex") }));
} catch (error) {
  if (!(error instanceof Failed)) throw error;
  if (error.outcome === "failed" && existsSync(noteFile)) unlinkSync(noteFile);
  console.error(error.message);
  console.log(JSON.stringify({ job: error.job, class: error.outcome, id_exposed: Boolean(error.job), sha256: null }));
  process.exitCode = 1;
}
