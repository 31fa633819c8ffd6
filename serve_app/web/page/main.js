/** The live page: a microphone or a recording, its text as it comes, and how the engine keeps up. */
import { Microphone } from "./client/sotto.js";
import { FORMATS, toText } from "./downloads.js";
import { Listening } from "./listening.js";
import { Plot } from "./plot.js";
import { decoded, RecordingSource } from "./sources.js";
import { pickLanguage } from "./texts.js";
import { Transcript } from "./transcript.js";
import { byId, View } from "./view.js";

const SERVER = new URL(".", location.href).href; // also where a proxy serves it below a path
const FLOOR_DB = -60;

const view = new View(pickLanguage(navigator.languages));
const transcript = new Transcript();
const plots = {
  level: new Plot(byId("level-plot"), { floor: FLOOR_DB, ceiling: 0 }),
  interim: new Plot(byId("interim-plot"), { ceiling: 1_000 }),
  final: new Plot(byId("final-plot"), { ceiling: 1_000 }),
};
const models = new Map(); // name by role
let key = ""; // in this page's memory and nowhere else
let listening = null;
let isRunning = false;

// what a session tells

const seconds = (ms) => (ms / 1000).toFixed(1);
const shown = (ms) => `${Math.round(ms)} ms`;

function events(offsetMs) {
  return {
    partial({ stable, unstable, timing }) {
      view.interim(stable, unstable);
      named("interim", timing.model);
    },
    final(event) {
      view.interim("", "");
      named("final", event.timing.model);
      const entry = transcript.add(event, offsetMs);
      if (entry !== null) view.append(entry, transcript.speakerNumber(entry.speaker));
    },
    speaker(event) {
      const entry = transcript.revise(event);
      if (entry !== null) view.name(entry, transcript.speakerNumber(entry.speaker));
    },
    state({ state }) {
      const text = { connecting: "connecting", live: "listening", reconnecting: "reconnecting" }[state];
      if (text !== undefined) view.say("status", text);
      if (state !== "live") return;
      view.say("load", "normal"); // the server says when it is not
      view.say("busy");
    },
    resumed({ lostMs }) {
      if (lostMs > 0) view.say("status", "resumedLossy", { seconds: seconds(lostMs) });
      else view.say("status", "resumed");
    },
    load({ level, interimsPaused }) {
      view.say("load", level);
      view.say("busy", interimsPaused ? "noInterims" : null);
    },
    message({ message }) {
      if (message.type === "model_status") view.say("busy", message.state === "stalled" ? "modelStalled" : null);
    },
    error({ message, fatal }) {
      if (!fatal) view.say("status", "complaint", { message });
    },
    level(db) {
      plots.level.push(Math.max(FLOOR_DB, db));
      byId("level").textContent = `${Math.round(db)} dB`;
    },
    interimLag(ms) {
      plots.interim.push(ms);
      byId("interim-lag").textContent = shown(ms);
    },
    finalLatency(ms) {
      plots.final.push(ms);
      byId("final-latency").textContent = shown(ms);
    },
    late(ms) {
      if (ms > 0) view.say("late", "late", { seconds: seconds(ms) });
      else view.say("late");
    },
    finishing: () => view.say("status", "finishing"),
  };
}

function named(role, model) {
  if (!model || models.get(role) === model) return;
  models.set(role, model);
  byId("models").textContent = [...models].map(([role, name]) => `${name} (${role})`).join(", ");
}

// starting and stopping

function config() {
  const chosen = {};
  if (byId("language").value !== "") chosen.lang_code = byId("language").value;
  if (byId("translate").checked) chosen.task = "translate";
  if (byId("diarize").checked) chosen.diarization = true;
  if (byId("keyterms").value.trim() !== "") chosen.hotwords = byId("keyterms").value.trim();
  return chosen;
}

/** One session with the sound of `makeSource(listening)`; another one that runs goes on. */
async function listen(makeSource, { isRealTime = true } = {}) {
  if (isRunning) return;
  isRunning = true;
  const tell = events(transcript.endMs);
  view.running(true);
  try {
    if (!(await isLetIn())) return view.say("status", "idle");
    const protocols = key === "" ? undefined : ["token", key];
    listening = new Listening({ url: SERVER, protocols, config: config(), isRealTime, tell });
    await listening.run(await makeSource(listening));
    view.say("status", "done");
  } catch (error) {
    const failure = { EncodingError: "unreadable", NotAllowedError: "noMicrophone", NotFoundError: "noMicrophone" };
    view.say("status", failure[error.name] ?? "failed", { message: error.detail ?? error.message });
  } finally {
    listening = null;
    isRunning = false;
    view.running(false);
    view.interim("", "");
  }
}

/** Whether the server takes us, with a key where it asks for one. WebSockets do not say why they are refused. */
async function isLetIn() {
  let question = "keyNeeded";
  for (;;) {
    const headers = key === "" ? {} : { authorization: `Bearer ${key}` };
    const answer = await fetch(new URL("v1/models", SERVER), { headers });
    if (answer.status !== 401) return true;
    if (key !== "") question = "keyRefused";
    key = await askedKey(question);
    if (key === "") return false;
  }
}

/** The key that is entered; empty where it is not. */
function askedKey(question) {
  const dialog = byId("key-dialog");
  view.say("key-question", question);
  byId("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

function play(bytes) {
  const isRealTime = byId("realtime").checked;
  const source = async (listening) =>
    new RecordingSource(await decoded(await bytes()), { room: isRealTime ? null : () => listening.room() });
  return listen(source, { isRealTime });
}

// what a person does

byId("microphone").onclick = () => listen(() => new Microphone());
byId("sample").onclick = () => play(async () => (await fetch(new URL("page/sample.flac", SERVER))).arrayBuffer());
byId("file").onchange = ({ target }) => {
  const [file] = target.files;
  if (file !== undefined) play(() => file.arrayBuffer());
  target.value = ""; // so that the same file can be chosen again
};
byId("stop").onclick = () => listening?.stop();
byId("interface").onchange = ({ target }) => view.speak(target.value);

document.body.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
};
document.body.ondragleave = () => document.body.classList.remove("dropping");
document.body.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file !== undefined) play(() => file.arrayBuffer());
};

byId("key-form").onsubmit = (event) => {
  event.preventDefault();
  byId("key-dialog").close(byId("key").value.trim());
};
byId("key-cancel").onclick = () => byId("key-dialog").close("");

byId("copy").onclick = async () => {
  await navigator.clipboard.writeText(toText(transcript.entries));
  view.say("status", "copied");
};
byId("clear").onclick = () => {
  transcript.clear();
  view.clear();
};
for (const button of document.querySelectorAll("[data-download]")) {
  button.onclick = () => {
    const name = button.dataset.download;
    const { type, write } = FORMATS[name];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([write(transcript.entries)], { type }));
    link.download = `transcript.${name}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
}

// what the server is

view.say("status", "idle");
try {
  const { models: loaded } = await (await fetch(new URL("health/status", SERVER))).json();
  for (const { role, name } of loaded) named(role, name);
} catch {
  // a proxy may keep this path to itself: the models' names then come with the first text
}
