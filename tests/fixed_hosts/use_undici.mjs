// A client with fixed hosts, with the fetch of a Node that reads no variables of a proxy: undici does.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../build/npm/package.json", import.meta.url));
const { EnvHttpProxyAgent, setGlobalDispatcher } = require("undici");
setGlobalDispatcher(new EnvHttpProxyAgent());
await import("./use_fetch.mjs");
