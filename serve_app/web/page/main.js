/** The live page: a microphone or a recording, its text as it comes, and how the engine keeps up. */
import { SoundArchive } from "./archive.js";
import { Microphone } from "./client/sotto.js";
import { FORMATS, toText } from "./downloads.js";
import { Listening } from "./listening.js";
import { OpusSocket } from "./opus_socket.js";
import { Player } from "./player.js";
import { Plot } from "./plot.js";
import { decoded, RecordingSource } from "./sources.js";
import { pickLanguage } from "./texts.js";
import { Transcript } from "./transcript.js";
import { byId, View } from "./view.js";

const SERVER = new URL(".", location.href).href; // also where a proxy serves it below a path
const FLOOR_DB = -60;

const view = new View(pickLanguage(navigator.languages));
const transcript = new Transcript();
const archive = new SoundArchive();
const player = new Player(archive, (isPlaying) => (byId("quiet").disabled = !isPlaying));
const plots = {
  level: new Plot(byId("level-plot"), { floor: FLOOR_DB, ceiling: 0 }),
  speech: new Plot(byId("speech-plot"), { ceiling: 1 }),
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

/** A speaker for the view; null where nobody is known. */
function speakerOf(label) {
  return label === null ? null : { number: transcript.speakerNumber(label), name: transcript.nameOf(label) };
}

/** `tellsSpeakers`: who spoke a final may come behind it, and has its place. */
function events(offsetMs, tellsSpeakers) {
  return {
    partial({ stable, unstable, timing }) {
      view.interim(stable, unstable);
      named("interim", timing.model);
    },
    final(event) {
      view.interim("", "");
      named("final", event.timing.model);
      const entry = transcript.add(event, offsetMs);
      if (entry === null) return;
      const isNamed = tellsSpeakers || entry.speaker !== null;
      view.append(entry, isNamed ? speakerOf(entry.speaker) : undefined);
    },
    speaker(event) {
      const entry = transcript.revise(event);
      if (entry !== null) view.name(entry, speakerOf(entry.speaker));
    },
    speech({ probability }) {
      plots.speech.push(probability);
      byId("speech").textContent = `${Math.round(100 * probability)} %`;
    },
    sound: (chunk) => archive.push(chunk),
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
  const chosen = { speech_probability: true };
  if (byId("language").value !== "") chosen.lang_code = byId("language").value;
  if (byId("translate").checked) chosen.task = "translate";
  if (byId("diarize").checked) chosen.diarization = true;
  if (byId("policy").value !== "") chosen.streaming_policy = byId("policy").value;
  if (byId("keyterms").value.trim() !== "") chosen.hotwords = byId("keyterms").value.trim();
  return chosen;
}

/** One session with the sound of `makeSource(listening)`; another one that runs goes on. */
async function listen(makeSource, { isRealTime = true } = {}) {
  if (isRunning) return;
  isRunning = true;
  view.running(true);
  const offsetMs = transcript.endMs;
  archive.continueAt(offsetMs);
  const tell = events(offsetMs, byId("diarize").checked);
  try {
    const protocols = () => (key === "" ? undefined : ["token", key]);
    const session = { url: SERVER, protocols, config: config(), isRealTime, tell };
    if (byId("opus").checked) session.WebSocket = OpusSocket;
    listening = new Listening(session);
    const source = await listening.unlessStopped(sourceFor(listening, makeSource));
    if (source === undefined) return view.say("status", "idle");
    await listening.run(source);
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

/** Its sound, once the server takes us; undefined where it does not. */
async function sourceFor(listening, makeSource) {
  return (await isLetIn(listening.stopping)) ? makeSource(listening) : undefined;
}

/** Whether the server takes us, with a key where it asks for one. WebSockets do not say why they are refused. */
async function isLetIn(signal) {
  let question = "keyNeeded";
  for (;;) {
    const headers = key === "" ? {} : { authorization: `Bearer ${key}` };
    const answer = await fetch(new URL("v1/models", SERVER), { headers, signal });
    if (answer.status !== 401) return true;
    if (signal.aborted) return false;
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
byId("quiet").onclick = () => player.stop();
byId("shade").onchange = ({ target }) => byId("transcript").classList.toggle("shaded", target.checked);
byId("interface").onchange = ({ target }) => view.speak(target.value);

function playFrom(element) {
  if (!player.play(1000 * view.wordAt(element).start)) {
    view.say("status", "soundGone", { minutes: SoundArchive.MAX_MINUTES });
  }
}

byId("finals").onclick = async ({ target }) => {
  if (target.matches(".word")) {
    if (getSelection().isCollapsed) playFrom(target); // else text was selected
    return;
  }
  if (!target.matches("button.speaker")) return;
  const name = await view.askName(target);
  if (name === null) return;
  const label = transcript.rename(Number(target.dataset.speaker), name);
  view.rename(speakerOf(label));
};
byId("finals").onpointerover = ({ target }) => {
  if (target.matches(".word")) view.showWord(target, { isSaid: false });
  else view.hideWord();
};
byId("finals").onpointerleave = byId("transcript").onblur = () => view.hideWord();
byId("transcript").onscroll = () => view.placeWord();
byId("transcript").onkeydown = (event) => {
  if (event.target !== event.currentTarget) return;
  const element = view.currentWord();
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const isRightToLeft = element !== null && getComputedStyle(element.parentElement).direction === "rtl";
    const next = view.moveWord((event.key === "ArrowRight") === isRightToLeft ? -1 : 1);
    if (next !== null) view.showWord(next, { isSaid: true });
  } else if (event.key === "Enter" && element !== null) {
    playFrom(element);
  } else if (event.key === "Escape") {
    player.stop();
    view.hideWord();
  } else {
    return;
  }
  event.preventDefault();
};

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
  await navigator.clipboard.writeText(toText(transcript.named()));
  view.say("status", "copied");
};
byId("clear").onclick = () => {
  player.stop();
  archive.clear();
  transcript.clear();
  view.clear();
};
for (const button of document.querySelectorAll("[data-download]")) {
  button.onclick = () => {
    const name = button.dataset.download;
    const { type, write } = FORMATS[name];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([write(transcript.named())], { type }));
    link.download = `transcript.${name}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
}

// what the server is

view.say("status", "idle");
byId("opus").disabled = !(await OpusSocket.isPossible());
try {
  const { models: loaded } = await (await fetch(new URL("health/status", SERVER))).json();
  for (const { role, name } of loaded) named(role, name);
} catch {
  // a proxy may keep this path to itself: the models' names then come with the first text
}
