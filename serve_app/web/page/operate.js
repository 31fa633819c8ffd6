/** The operator's page: what `GET /v1/operate` says, every few seconds while somebody looks. */
import { Entry } from "./entry.js";
import { bytes, moment, number } from "./formats.js";
import { Interface } from "./interface.js";
import { OPERATE_TEXTS } from "./operate_texts.js";
import { element, fill } from "./tables.js";

const AGAIN_MS = 5_000;

let known = null; // the newest answer
let again = 0;
const face = new Interface(OPERATE_TEXTS, () => known !== null && show(known));
const entry = new Entry((question) => face.say("key-question", question));

async function ask() {
  clearTimeout(again);
  try {
    const answer = await entry.json("v1/operate");
    if (answer === null) return face.say("status", "noKey");
    known = answer;
    show(known);
    const key = known.figures === null ? "noFigures" : known.ready ? "asOf" : "notReady";
    face.say("status", key, { moment: moment(known.at), degraded: (known.degraded ?? []).join(", ") });
  } catch (error) {
    face.say("status", error.status === 403 ? "notAdmin" : "away", { message: error.message });
    if (error.status === 403) return;
  }
  if (!document.hidden) again = setTimeout(ask, AGAIN_MS);
}

function show({ version, figures, replicas, models, keys }) {
  const tiles = [[face.text("version"), version]];
  if (figures !== null) {
    const { sessions, work } = figures;
    const ended = Object.entries(sessions.ended).map(([why, count]) => `${face.word("reasons", why)} ${number(count)}`);
    tiles.push(
      [face.text("connections"), number(sessions.connections)],
      [face.text("started"), number(sessions.started), face.text("resumed", { count: number(sessions.resumed) })],
      [face.text("ended"), number(sum(Object.values(sessions.ended))), ended.join(", ")],
      [face.text("waiting"), `${number(work.finals)} / ${number(work.interims)}`, face.text("finalsInterims")],
      [face.text("uploads"), number(work.uploads)],
      [face.text("jobsWaiting"), work.jobs_waiting === null ? "–" : number(work.jobs_waiting)],
      [face.text("load"), face.word("levels", work.level), work.rung === "normal" ? "" : work.rung],
    );
  }
  document.getElementById("now").replaceChildren(...tiles.map(tile));

  fill(
    "replicas",
    ["deployment", "state", "replicas"].map((key) => face.text(key)),
    (replicas ?? []).map((one) => [one.deployment, one.status, counted(one.states)]),
    face.text("unknown"),
  );
  fill(
    "models",
    ["model", "role", "engine", "device"].map((key) => face.text(key)),
    models.map((one) => [one.name, one.role, one.engine, `${one.device}, ${one.compute_type}`]),
    face.text("none"),
  );
  fill(
    "gpus",
    ["card", "memory", "busy", "temperature", "power"].map((key) => face.text(key)),
    (figures?.gpus ?? []).map((one) => [
      one.name || one.uuid,
      `${bytes(one.memory_used_bytes)} / ${bytes(one.memory_total_bytes)}`,
      one.utilisation === null ? "–" : `${number(100 * one.utilisation)} %`,
      one.temperature_celsius === null ? "–" : `${number(one.temperature_celsius)} °C`,
      one.power_watts === null ? "–" : `${number(one.power_watts)} W`,
    ]),
    face.text("none"),
  );
  fill(
    "refused",
    ["what", "why", "count"].map((key) => face.text(key)),
    (figures?.refused ?? []).map((one) => [one.what, one.reason, number(one.count)]),
    face.text("none"),
  );
  const decodes = Object.entries(figures?.failed_decodes ?? {});
  fill(
    "failures",
    ["last", "door", "status", "why", "count"].map((key) => face.text(key)),
    [
      ...(figures?.failures ?? []).map((one) => [
        one.last_at === null ? "–" : moment(one.last_at), one.door, one.status, one.reason, number(one.count),
      ]),
      ...decodes.map(([role, count]) => ["–", face.text("decoding"), "–", role, number(count)]),
    ],
    face.text("none"),
  );
  if (keys === null) face.say("keys-note", "noKeys");
  else face.say("keys-note", keys.plain ? "keysAndPlain" : "keysTotal", { count: number(keys.total) });
  fill(
    "keys",
    ["name", "id", "state", "scopes", "expires", "limits"].map((key) => face.text(key)),
    (keys?.newest ?? []).map((one) => [
      one.name,
      one.id,
      face.word("states", one.state),
      one.scopes.join(", "),
      one.expires_at == null ? "–" : moment(one.expires_at),
      counted(one.limits),
    ]),
    face.text("none"),
  );
}

function tile([name, value, more = ""]) {
  const box = element("div");
  box.append(element("dt", name), element("dd", value));
  if (more !== "") box.append(element("dd", more, { class: "hint" }));
  return box;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);
const counted = (counts) =>
  Object.entries(counts).map(([name, count]) => `${name} ${number(count)}`).join(", ") || "–";

document.onvisibilitychange = () => document.hidden || ask();
ask();
