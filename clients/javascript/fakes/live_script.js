/** One live session against a real server: node live_script.js URL SECONDS; prints its events as JSON lines. */
import { LiveSession, transcribe } from "../sotto.js";
import { encodeWav } from "../recording.js";

const [url, seconds] = [process.argv[2], Number(process.argv[3])];
const session = new LiveSession({ url, config: { lang_code: "en" } });
for (const type of ["partial", "final", "vad", "error"]) session.on(type, (event) => console.log(JSON.stringify(event)));
await session.start();
const chunk = new Int16Array(1600).fill(1000);
for (let count = 0; count < seconds * 10; count += 1) {
  session.sendAudio(chunk);
  await session.drained();
}
session.flush();
console.log(JSON.stringify(await session.end()));
const answer = await transcribe(url, new Blob([encodeWav([chunk, chunk])]), { language: "en", wordTimestamps: true });
console.log(JSON.stringify({ type: "transcription", ...answer }));
