/** A transcript's entries as the files that can be kept: each format's media type, and its text. */
export const FORMATS = {
  txt: { type: "text/plain", write: toText },
  srt: { type: "application/x-subrip", write: toSrt },
  vtt: { type: "text/vtt", write: toVtt },
  json: { type: "application/json", write: toJson },
};

/** A line for each final. */
export function toText(entries) {
  return entries.map((entry) => `${spoken(entry)}\n`).join("");
}

export function toSrt(entries) {
  const cue = (entry, index) =>
    `${index + 1}\n${timestamp(entry.startMs, ",")} --> ${timestamp(entry.endMs, ",")}\n${spoken(entry)}\n`;
  return entries.map(cue).join("\n");
}

export function toVtt(entries) {
  const voice = ({ speaker }) => (speaker === null ? "" : `<v ${escaped(speaker)}>`);
  const cue = (entry) =>
    `${timestamp(entry.startMs, ".")} --> ${timestamp(entry.endMs, ".")}\n${voice(entry)}${escaped(entry.text)}\n`;
  return ["WEBVTT\n", ...entries.map(cue)].join("\n");
}

export function toJson(entries) {
  const segments = entries.map(({ startMs, endMs, text, speaker, language, confidence, words }) => ({
    start: startMs / 1000,
    end: endMs / 1000,
    text,
    speaker,
    language,
    confidence,
    words,
  }));
  return `${JSON.stringify({ text: entries.map((entry) => entry.text).join(" "), segments }, null, 2)}\n`;
}

function spoken({ speaker, text }) {
  return speaker === null ? text : `${speaker}: ${text}`;
}

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function timestamp(ms, point) {
  const whole = Math.round(ms);
  const two = (number) => String(number).padStart(2, "0");
  const seconds = Math.floor(whole / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return `${two(hours)}:${two(minutes)}:${two(seconds % 60)}${point}${String(whole % 1000).padStart(3, "0")}`;
}
