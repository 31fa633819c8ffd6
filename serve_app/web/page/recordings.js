/** The page of recordings: send them, see what became of them, read their text. */
import "./recordings_texts.js";
import { FORMATS, toText } from "./downloads.js";
import { Entry } from "./entry.js";
import { bytes, duration, moment } from "./formats.js";
import { Pages } from "./pages.js";
import { finalsOf } from "./results.js";
import { element, fill } from "./tables.js";
import { pickLanguage, textIn } from "./texts.js";
import { Transcript } from "./transcript.js";
import { byId, View } from "./view.js";

const AGAIN_MS = 1_500;
const STATES = { queued: "queued", running: "runs", done: "finished", failed: "wrong", cancelled: "cancelled" };

const view = new View(pickLanguage(navigator.languages));
const entry = new Entry((question) => view.say("key-question", question));
const transcript = new Transcript();
const names = new Map(); // of files that were sent from this page, by job or clip: the server does not know them
const jobs = new Pages(pageOf("jobs", "api/jobs"), (job) => job.job_id);
const clips = new Pages(pageOf("clips", "api/audio"), (clip) => clip.clip_id);
let shownName = "";
let again = 0;

const text = (key, values) => textIn(document.documentElement.lang, key, values);
const nameOf = (id) => names.get(id) ?? id.slice(0, 8);

// the lists

function pageOf(kind, path) {
  return async (query) => {
    try {
      const page = await entry.json(`${path}?${query}`);
      if (page === null) view.say(`${kind}-note`, "noKey");
      else view.say(`${kind}-note`);
      return page === null ? null : { items: page[kind], next: page.next };
    } catch (error) {
      const key = { 409: "nothingKept", 403: "notAllowed" }[error.status];
      view.say(`${kind}-note`, key ?? "trouble", { message: error.message });
      if (error.status === 409) byId("purpose").querySelector(`[value=${kind}]`).disabled = true;
      return null;
    }
  };
}

async function look() {
  clearTimeout(again);
  await jobs.refresh();
  showJobs();
  const isOpen = (job) => job.status === "queued" || job.status === "running";
  if (jobs.items.some(isOpen) && !document.hidden) again = setTimeout(look, AGAIN_MS);
}

async function lookAll() {
  await look();
  await clips.refresh();
  showClips();
  const isClosed = [...byId("purpose").options].every((option) => option.disabled);
  byId("file").disabled = isClosed;
}

function showJobs() {
  byId("jobs-older").hidden = !jobs.hasOlder;
  const heads = ["made", "name", "state", "actions"].map((key) => text(key));
  fill("jobs", heads, jobs.items.map(jobRow), text("none"));
}

function jobRow(job) {
  const { job_id: id, status } = job;
  const state = element("span", text(STATES[status] ?? "trouble", { message: status }));
  if (status === "running") state.append(" ", bar(job.progress, text("runs")));
  if (job.error !== undefined) state.append(`: ${job.error.message}`);
  const isOver = status !== "queued" && status !== "running";
  const actions = element("span");
  if (status === "done") actions.append(button("show", `show ${id}`, () => open(id), nameOf(id)), " ");
  actions.append(button(isOver ? "remove" : "cancel", `drop ${id}`, () => drop(job, isOver), nameOf(id)));
  return [moment(job.created_at), nameOf(id), state, actions];
}

function showClips() {
  byId("clips-older").hidden = !clips.hasOlder;
  const heads = ["made", "name", "length", "format", "size", "until", "actions"].map((key) => text(key));
  fill("clips", heads, clips.items.map(clipRow), text("none"));
}

function clipRow(clip) {
  const id = clip.clip_id;
  const actions = element("span");
  actions.append(
    button("again", `again ${id}`, () => transcribeClip(id), nameOf(id)), " ",
    button("remove", `drop ${id}`, () => dropClip(id), nameOf(id)),
  );
  const facts = [duration(clip.duration), clip.format, bytes(clip.size_bytes), moment(clip.expires_at)];
  return [moment(clip.created_at), nameOf(id), ...facts, actions];
}

/** `focus` names it, so that a list that is filled anew keeps the focus on it; `what` is for screen readers. */
function button(key, focus, act, what) {
  const made = element("button", text(key), { "data-focus": focus, "aria-label": `${text(key)}: ${what}` });
  made.onclick = () => tried(act);
  return made;
}

function bar(share, name) {
  return element("progress", "", { value: share, max: 1, "aria-label": name });
}

/** What a click does, with the server's own words where it does not. */
async function tried(act) {
  try {
    await act();
  } catch (error) {
    view.say("status", "trouble", { message: error.message });
  }
}

// what is done with one

async function drop(job, isOver) {
  const told = await entry.json(`api/jobs/${job.job_id}`, { method: "DELETE" });
  if (told === null) return;
  jobs.put(job.job_id, isOver ? null : told);
  showJobs();
}

async function dropClip(id) {
  if ((await entry.json(`api/audio/${id}`, { method: "DELETE" })) === null) return;
  clips.put(id, null);
  showClips();
}

async function transcribeClip(id) {
  const job = await entry.json(`api/jobs?${options()}&clip_id=${id}`, { method: "POST" });
  if (job === null) return;
  if (names.has(id)) names.set(job.job_id, names.get(id));
  await look();
}

async function open(id) {
  const job = await entry.json(`api/jobs/${id}`);
  if (job?.result === undefined) return;
  transcript.clear();
  view.clear();
  for (const final of finalsOf(job.result)) {
    const added = transcript.add(final);
    if (added !== null) view.append(added, speakerOf(added.speaker));
  }
  shownName = nameOf(id);
  byId("transcript").scrollTop = 0;
  byId("transcript").focus();
  for (const one of document.querySelectorAll("#results button")) one.disabled = false;
  view.say("status", "shownText", { name: shownName });
}

/** Who spoke, as `View.append` takes it: a number, or what has one and a name. */
function speakerOf(label) {
  if (label === null) return null;
  const number = transcript.speakerNumber(label);
  return { number, name: label, valueOf: () => number };
}

// sending

function options() {
  const chosen = new URLSearchParams({ word_timestamps: "true" });
  if (byId("language").value !== "") chosen.set("language", byId("language").value);
  if (byId("diarize").checked) chosen.set("diarize", "true");
  return chosen;
}

/** One after the other: two at once would only share the line. */
async function send(files) {
  const isJob = byId("purpose").value === "jobs";
  const path = isJob ? `api/jobs?${options()}` : "api/audio";
  const waiting = [...files].map((file) => ({ file, line: uploadLine(file.name) }));
  for (const { file, line } of waiting) {
    try {
      if (!line.stop.signal.aborted) await sendOne(file, path, line, isJob);
    } catch (error) {
      const isStopped = error.name === "AbortError";
      view.say("status", isStopped ? "stopped" : "trouble", { name: file.name, message: error.message });
    } finally {
      line.paragraph.remove();
    }
  }
  await lookAll();
}

async function sendOne(file, path, line, isJob) {
  const told = await entry.upload(path, file, (share) => (line.bar.value = share), line.stop.signal);
  if (told === null) return view.say("status", "stopped", { name: file.name });
  names.set(isJob ? told.job_id : told.clip_id, file.name);
  view.say("status", "sent", { name: file.name });
  if (isJob) await look();
}

function uploadLine(name) {
  const stop = new AbortController();
  const paragraph = element("p");
  const sending = text("sending", { name });
  const shown = bar(0, sending);
  const cancel = element("button", text("cancel"), { "aria-label": `${text("cancel")}: ${name}` });
  cancel.onclick = () => {
    stop.abort();
    paragraph.remove();
  };
  paragraph.append(`${sending} `, shown, " ", cancel);
  byId("uploads").append(paragraph);
  return { paragraph, bar: shown, stop };
}

// what a person does

byId("file").onchange = ({ target }) => {
  send([...target.files]);
  target.value = ""; // so that the same file can be chosen again
};
document.body.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
};
document.body.ondragleave = () => document.body.classList.remove("dropping");
document.body.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (!byId("file").disabled) send(event.dataTransfer.files);
};
byId("interface").onchange = ({ target }) => {
  view.speak(target.value);
  showJobs();
  showClips();
};
byId("jobs-older").onclick = () => tried(() => jobs.older().then(showJobs));
byId("clips-older").onclick = () => tried(() => clips.older().then(showClips));
byId("copy").onclick = () =>
  tried(async () => {
    await navigator.clipboard.writeText(toText(transcript.entries));
    view.say("status", "copied");
  });
for (const one of document.querySelectorAll("[data-download]")) {
  one.onclick = () => {
    const { type, write } = FORMATS[one.dataset.download];
    const link = element("a", "", { download: `${shownName}.${one.dataset.download}` });
    link.href = URL.createObjectURL(new Blob([write(transcript.entries)], { type }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
}
document.onvisibilitychange = () => document.hidden || look();
lookAll();
