// A client with fixed hosts, with the fetch of Node.

import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";

const { HOBBYHORSE_API_KEY: key, HOBBYHORSE_MODEL: model, HOBBYHORSE_REQUEST: order, HOBBYHORSE_OUTPUT: output } = process.env;
const plan = JSON.parse(readFileSync(new URL("plans.json", import.meta.url)))[process.argv[2]];
const headers = { Authorization: `Bearer ${key}` };

async function send(url, options) {
  const response = await fetch(url, { signal: AbortSignal.timeout(30_000), ...options });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response;
}

const at = (value, path) => path.reduce((found, name) => found[name], value);
const submitted = await send(plan.submit.replace("{model}", model), {
  method: "POST",
  headers: { ...headers, "Content-Type": "application/json" },
  body: readFileSync(order),
});
const job = at(await submitted.json(), plan.id);
let found;
for (let polls = 0; polls < 300; polls += 1) {
  found = await (await send(plan.poll.replace("{id}", job), { headers })).json();
  if (at(found, plan.status) === plan.done) break;
  await setTimeout(100);
}
if (plan.result !== null) found = await (await send(plan.result.replace("{id}", job), { headers })).json();
const link = at(found, plan.video);
writeFileSync(output, Buffer.from(await (await send(link)).arrayBuffer()));
console.log(JSON.stringify({ class: "success", job, link }));
