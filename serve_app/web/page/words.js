/**
 * A final's text as pieces `{text, word}`, which are the text when joined. `word` is null where the piece is none of
 * `words`: spaces and punctuation, and words that were written differently afterwards ("twenty" as "20").
 */
export function piecesOf(text, words) {
  const pieces = [];
  let end = 0;
  for (const word of words) {
    const start = text.indexOf(word.word, end);
    if (word.word === "" || start < 0) continue;
    if (start > end) pieces.push({ text: text.slice(end, start), word: null });
    end = start + word.word.length;
    pieces.push({ text: word.word, word });
  }
  if (end < text.length) pieces.push({ text: text.slice(end), word: null });
  return pieces;
}

/** Seconds as a clock shows them: 1:02.3, with hours where there are any. */
export function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  const [hours, minutes] = [Math.floor(tenths / 36_000), Math.floor(tenths / 600) % 60];
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** How far a word is to be believed, as a class of its element. */
export function doubtOf({ probability }) {
  if (probability < 0.4) return "doubtful";
  return probability < 0.75 ? "unsure" : "";
}
