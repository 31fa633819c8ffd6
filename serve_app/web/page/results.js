/** Results of jobs as the finals that `Transcript.add` takes, so that recordings are shown as live text is. */

/** `result`: the answer of `POST /transcribe`, or the text of another format, which has no times to show. */
export function finalsOf(result) {
  if (typeof result === "string") return [final({ id: 0, text: result, start: 0, end: 0 }, [], null)];
  const words = [...(result.words ?? [])];
  return result.segments.map((segment, index) => {
    const isLast = index === result.segments.length - 1;
    const own = [];
    while (words.length > 0 && (isLast || (words[0].start + words[0].end) / 2 < segment.end)) own.push(words.shift());
    return final(segment, own, result.language);
  });
}

function final({ id, text, start, end, speaker, avg_logprob }, words, language) {
  return {
    segmentId: `segment-${id}`,
    text,
    speaker: speaker ?? null,
    language,
    confidence: Number.isFinite(avg_logprob) ? Math.exp(avg_logprob) : null,
    startMs: Math.round(1000 * start),
    endMs: Math.round(1000 * end),
    words,
  };
}
