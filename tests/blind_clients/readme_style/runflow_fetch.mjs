import { readFile, writeFile } from "node:fs/promises";

async function main() {
  const response = await fetch(`${process.env.HOBBYHORSE_BASE_URL}/v1/run/alibaba/happy-horse/image-to-video`, {
    method: "POST",
    headers: {
      Authorization: `Bearer ${process.env.HOBBYHORSE_API_KEY}`,
      "Content-Type": "application/json",
    },
    body: await readFile(process.env.HOBBYHORSE_REQUEST, "utf8"),
  });
  if (!response.ok) {
    throw new Error(`Request failed: ${response.status}`);
  }
  const data = await response.json();
  const video = await fetch(data.video.url);
  await writeFile(process.env.HOBBYHORSE_OUTPUT, Buffer.from(await video.arrayBuffer()));
  console.log("Saved", process.env.HOBBYHORSE_OUTPUT);
}

main();
