import fs from "node:fs";

const base = process.env.HOBBYHORSE_BASE_URL;
const headers = { Authorization: `Bearer ${process.env.HOBBYHORSE_API_KEY}`, "Content-Type": "application/json" };

const submit = await fetch(`${base}/v1/models/${process.env.HOBBYHORSE_MODEL}`, {
  method: "POST",
  headers,
  body: fs.readFileSync(process.env.HOBBYHORSE_REQUEST),
});
const { request_id } = await submit.json();

for (;;) {
  const status = await (await fetch(`${base}/v1/requests/${request_id}/status`, { headers })).json();
  console.log(status.status);
  if (status.status === "completed") break;
  if (status.status === "cancelled") throw new Error("cancelled");
  await new Promise((resolve) => setTimeout(resolve, 1000));
}

const { output } = await (await fetch(`${base}/v1/requests/${request_id}/result`, { headers })).json();
const video = await fetch(output.video);
fs.writeFileSync(process.env.HOBBYHORSE_OUTPUT, Buffer.from(await video.arrayBuffer()));
