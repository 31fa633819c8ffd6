/** A live session from Node: a 16-bit mono WAV at 16 kHz, sent as fast as the server takes it. */
import { readFile } from "node:fs/promises";
import { LiveSession } from "../clients/javascript/sotto.js";

const [file, url = "http://127.0.0.1:8000"] = process.argv.slice(2);
const bytes = await readFile(file);
const samples = new Int16Array(bytes.buffer.slice(bytes.byteOffset + 44, bytes.byteOffset + bytes.length));

const session = new LiveSession({ url, config: { lang_code: "en" } });
session.on("partial", ({ text }) => console.log("...", text));
session.on("final", ({ text, startMs }) => console.log((startMs / 1000).toFixed(2), text));
session.on("error", ({ code, message }) => console.error(code, message));
await session.start();
for (let start = 0; start < samples.length; start += 1600) {
  session.sendAudio(samples.subarray(start, start + 1600));
  await session.drained();
}
await session.end();
