"""The `align_att` policy: certain is what attends to audio well before the end of what has come in.

The rule itself is `asr.attention`'s; engines that give no attention cannot serve this policy.
"""

from __future__ import annotations

from serve_app.asr.jobs import Role, Transcript
from serve_app.streaming.committed import CommittedText
from serve_app.streaming.policy import Ask, InterimText, PolicyOptions


class AlignAttPolicy:
    """Commits the safe part of every answer; the rest of the hypothesis is shown as interim."""

    def __init__(self, start_sample: int, options: PolicyOptions) -> None:
        self._rule = options.attention
        self._text = CommittedText(start_sample, trimming=options.trimming, trimming_s=options.trimming_s)

    def ask_interim(self, end_sample: int, longest_samples: int) -> Ask:
        ask = self._text.ask()
        return Ask(
            ask.start_sample,
            prefix=ask.prefix,
            previous=ask.previous,
            word_timestamps=self._text.is_long(end_sample),
            attention=self._rule,
            model=Role.FINAL,
        )

    def ask_final(self) -> Ask:
        return self._text.ask()

    def take(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        if not self._fits(transcript, ask) or transcript.looped:
            return None
        text = transcript.text.strip()
        self._text.commit(text[: transcript.committed_chars].rstrip())
        shown = InterimText(self._text.whole(text), len(self._text.text))
        if transcript.words:
            self._text.trim(transcript.words, end_sample)
        return shown

    def preview(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        if not self._fits(transcript, ask):
            return None
        return InterimText(self._text.whole(transcript.text.strip()), len(self._text.text))

    def complete(self, transcript: Transcript, ask: Ask) -> Transcript:
        return self._text.complete(transcript, ask)

    def _fits(self, transcript: Transcript, ask: Ask) -> bool:
        text = transcript.text.strip()
        return bool(text) and self._text.matches(ask) and text.startswith(ask.prefix)
