"""Who spoke, on a Realtime session with the diarizing model: a segment for each stretch of one speaker.

A segment is said once. So a final's segments wait until all of its speakers are known, as `WaitingFinals`
says; what is not known by then, or at the end of the session, is of the speaker `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final as Constant

from serve_app.core.events import Final, SpeakerRevision
from serve_app.protocols.openai import realtime_records as records
from serve_app.protocols.openai.realtime_frames import RealtimeFrames
from serve_app.protocols.speaker_runs import WaitingFinals, speaker_runs
from serve_app.speakers.turns import openai_label

UNKNOWN: Constant = "unknown"


class RealtimeSegments:
    """The segments of one connection, in the order of its finals."""

    def __init__(self, frames: RealtimeFrames) -> None:
        self._frames = frames
        self._waiting = WaitingFinals()
        self._item_ids: dict[str, str] = {}
        self._number = 0

    def final(self, item_id: str, final: Final) -> list[str]:
        self._item_ids[final.utterance_id] = item_id
        return self._said(self._waiting.add(final))

    def revise(self, revision: SpeakerRevision) -> list[str]:
        return self._said(self._waiting.revise(revision) or ())

    def settle(self) -> list[str]:
        """Nothing more will be known."""
        return self._said(self._waiting.settle())

    def _said(self, finals: Iterable[Final]) -> list[str]:
        frames: list[str] = []
        for final in finals:
            item_id = self._item_ids.pop(final.utterance_id)
            for run in speaker_runs(final):
                segment = self._frames.frame(
                    records.Segment,
                    item_id=item_id,
                    id=f"seg_{self._number:06d}",
                    start=round(run.start_s, 3),
                    end=round(run.end_s, 3),
                    text=run.text,
                    speaker=UNKNOWN if run.speaker is None else openai_label(run.speaker),
                )
                frames.append(segment)
                self._number += 1
        return frames
