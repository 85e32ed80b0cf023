// RunComfy with Node's fetch: no deadline, but at most 150 looks at the job, about one every four seconds.
// Exit status 0: the video is at HOBBYHORSE_OUTPUT. Exit status 1: the last line on stdout says why not.
import { rename, readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const env = process.env;
const base = env.HOBBYHORSE_BASE_URL.replace(/\/+$/, "");
const model = env.HOBBYHORSE_MODEL ?? "happyhorse/happyhorse-1.0/image-to-video";
const speed = Number(env.HOBBYHORSE_SPEED ?? 1) || 1;
const pause = (seconds) => sleep((Math.max(0, seconds) * 1000) / speed);
const limit = (seconds) => AbortSignal.timeout(Math.ceil(Math.max(1000, (seconds * 1000) / speed)));
const MOST_LOOKS = 150;
const PASSING = new Set([404, 408, 425, 429, 500, 502, 503, 504]);

class Failure extends Error {
  constructor(message, { job, kind = "failed" } = {}) {
    super(message);
    Object.assign(this, { job, kind });
  }
}

function waitOf(response, fallback) {
  const value = response.headers.get("retry-after");
  if (value === null) return fallback;
  if (/^\d+$/.test(value.trim())) return Number(value);
  const due = Date.parse(value);
  const sent = Date.parse(response.headers.get("date") ?? "") || Date.now();
  return Number.isNaN(due) ? fallback : Math.max(0, (due - sent) / 1000);
}

async function api(method, path, { body, seconds = 15 } = {}) {
  const headers = { authorization: `Bearer ${env.HOBBYHORSE_API_KEY}`, accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  // redirect: "manual", because a redirected POST would be a second submission
  const response = await fetch(base + path, { method, headers, body, redirect: "manual", signal: limit(seconds) });
  const text = await response.text();
  let json = null;
  try {
    json = JSON.parse(text);
  } catch {
    // a proxy's HTML page, or a body that broke off
  }
  return { response, text, json: json !== null && typeof json === "object" ? json : null };
}

const reason = ({ json, text }) => {
  const said = json?.error ?? json?.error_message ?? json?.message ?? text.slice(0, 200);
  return typeof said === "string" ? said : JSON.stringify(said);
};

async function submit(body) {
  for (let attempt = 1; attempt <= 5; attempt++) {
    let reply;
    try {
      reply = await api("POST", `/v1/models/${model}`, { body, seconds: 60 });
    } catch (error) {
      const code = error.cause?.code;
      if (code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "UND_ERR_CONNECT_TIMEOUT") {
        await pause(attempt * 2); // no connection, so no submission
        continue;
      }
      throw new Failure(`it is unknown whether the submission was accepted (${code ?? error.name}); not repeated`);
    }
    if (reply.response.status === 429) {
      await pause(waitOf(reply.response, attempt * 3));
      continue;
    }
    if (!reply.response.ok) throw new Failure(`submission: HTTP ${reply.response.status}: ${reason(reply)}`);
    const job = reply.json?.request_id;
    if (typeof job !== "string" || job === "") throw new Failure(`submission: no request_id in ${reason(reply)}`);
    return job;
  }
  throw new Failure("the submission was refused 5 times, no job exists");
}

async function look(job, what) {
  let reply;
  try {
    reply = await api("GET", `/v1/requests/${encodeURIComponent(job)}/${what}`);
  } catch {
    return { again: 6 };
  }
  const { response, json } = reply;
  if (PASSING.has(response.status)) return { again: waitOf(response, 6) };
  if (!response.ok) throw new Failure(`${what}: HTTP ${response.status}: ${reason(reply)}`, { job });
  return json === null ? { again: 6 } : { json };
}

async function download(link) {
  try {
    const response = await fetch(link, { signal: limit(180) }); // no key for the media host
    if (response.status !== 200) return null;
    const data = Buffer.from(await response.arrayBuffer());
    const length = response.headers.get("content-length");
    if (length !== null && Number(length) !== data.length) return null;
    return isWhole(data) ? data : null;
  } catch {
    return null;
  }
}

function isWhole(data) {
  if (data.length < 16 || data.toString("latin1", 4, 8) !== "ftyp") return false;
  let at = 0;
  while (at + 8 <= data.length) {
    let size = data.readUInt32BE(at);
    if (size === 1) size = Number(data.readBigUInt64BE(at + 8));
    if (size === 0) return true; // the last box extends to the end
    if (size < 8) return false;
    at += size;
  }
  return at === data.length;
}

async function videoOf(job) {
  const status = await look(job, "status");
  if (status.again !== undefined) return status;
  if (status.json.status === "cancelled") throw new Failure("the job was cancelled", { job });
  if (status.json.status !== "completed") return { again: 4 };
  const result = await look(job, "result");
  if (result.again !== undefined) return result;
  const { status: state, error, output } = result.json;
  if (state === "in_queue" || state === "in_progress") return { again: 4 };
  if (state === "failed" || state === "cancelled" || error)
    throw new Failure(`the job ${state}: ${reason({ json: result.json, text: "" })}`, { job });
  const link = output?.video ?? output?.videos?.[0];
  const data = typeof link === "string" ? await download(link) : null;
  return data === null ? { again: 6 } : { data };
}

async function main() {
  const job = await submit(await readFile(env.HOBBYHORSE_REQUEST));
  console.error(`request_id ${job}`);
  for (let looks = 0; looks < MOST_LOOKS; looks++) {
    const { again, data } = await videoOf(job);
    if (data !== undefined) {
      await writeFile(`${env.HOBBYHORSE_OUTPUT}.part`, data);
      await rename(`${env.HOBBYHORSE_OUTPUT}.part`, env.HOBBYHORSE_OUTPUT);
      return job;
    }
    if (again > 900) throw new Failure(`still running; told to come back in ${again} s`, { job, kind: "timeout" });
    await pause(again);
  }
  const cancelled = await api("POST", `/v1/requests/${encodeURIComponent(job)}/cancel`).catch(() => null);
  const outcome = cancelled?.json?.outcome ?? "no answer to the cancellation";
  throw new Failure(`still running after ${MOST_LOOKS} looks (${outcome})`, { job, kind: "timeout" });
}

try {
  const job = await main();
  console.log(JSON.stringify({ job, class: "success" }));
} catch (error) {
  console.error(`${error.message}${error.job ? ` (request_id ${error.job})` : ""}`);
  console.log(JSON.stringify({ job: error.job, class: error.kind ?? "error", reason: error.message }));
  process.exitCode = 1;
}
