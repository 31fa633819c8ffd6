"""Who spoke, on a Realtime session with the diarizing model: a segment for each stretch of one speaker.

A segment is said once. So a final's segments wait until all of its speakers are known, for `MAX_WAITING`
others at most; what nobody knows by then, or at the end of the session, is of the speaker `unknown`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any
from typing import Final as Constant

from serve_app.events import Final, SpeakerRevision
from serve_app.protocols.openai.realtime_frames import RealtimeFrames
from serve_app.protocols.speaker_runs import all_known, revised, speaker_runs
from serve_app.speakers.labels import openai_label

UNKNOWN: Constant = "unknown"
MAX_WAITING: Constant = 8


class RealtimeSegments:
    """The segments of one connection, in the order of its finals."""

    def __init__(self, frames: RealtimeFrames) -> None:
        self._frames = frames
        self._waiting: OrderedDict[str, tuple[str, Final]] = OrderedDict()
        self._number = 0

    def final(self, item_id: str, final: Final) -> list[str]:
        self._waiting[final.utterance_id] = (item_id, final)
        return self._due(MAX_WAITING)

    def revise(self, revision: SpeakerRevision) -> list[str]:
        if revision.utterance_id not in self._waiting:
            return []
        item_id, final = self._waiting[revision.utterance_id]
        self._waiting[revision.utterance_id] = (item_id, revised(final, revision))
        return self._due(MAX_WAITING)

    def settle(self) -> list[str]:
        """Nothing more will be known."""
        return self._due(0)

    def _due(self, max_waiting: int) -> list[str]:
        frames: list[str] = []
        while self._waiting:
            item_id, final = next(iter(self._waiting.values()))
            if len(self._waiting) <= max_waiting and not all_known(final):
                break
            self._waiting.popitem(last=False)
            frames += [self._frames.segment(item_id, **fields) for fields in self._segments(final)]
        return frames

    def _segments(self, final: Final) -> Iterator[dict[str, Any]]:
        for run in speaker_runs(final):
            yield {
                "id": f"seg_{self._number:06d}",
                "start": round(run.start_s, 3),
                "end": round(run.end_s, 3),
                "text": run.text,
                "speaker": UNKNOWN if run.speaker is None else openai_label(run.speaker),
            }
            self._number += 1
