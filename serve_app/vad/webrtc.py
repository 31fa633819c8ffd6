"""The WebRTC project's voice activity detector (Gaussian mixtures over six bands) behind the same interface.

Its state lives in a C struct that cannot be copied, so the state that travels is audio: the newest 15
windows. Each window is judged by a detector that has just heard those 15, independent of earlier calls; that
is why grouping and retries change nothing. It works on frames of 10 ms: the last three of a window are its
vote, and the probability is 0, 1/3, 2/3 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import webrtcvad

from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.vad.detector import (
    WEBRTC_STATE,
    WINDOW_SAMPLES,
    PackedRequests,
    PackedResults,
    StateShape,
    VadRequest,
    VadResult,
    pack_requests,
    unpack_results,
)

_FRAME_SAMPLES: Final = SAMPLE_RATE_HZ // 100
_VOTING_FRAMES: Final = WINDOW_SAMPLES // _FRAME_SAMPLES
_HEARD_SAMPLES: Final = WEBRTC_STATE.num_context_samples + WINDOW_SAMPLES
_SKIPPED_SAMPLES: Final = _HEARD_SAMPLES % _FRAME_SAMPLES


class WebRtcDetector:
    """`aggressiveness` 0 calls most audio speech, 3 least. Safe to call from several threads."""

    window_samples = WINDOW_SAMPLES
    state_shape: StateShape = WEBRTC_STATE

    def __init__(self, aggressiveness: int = 2) -> None:
        if not 0 <= aggressiveness <= 3:
            raise ValueError(f"aggressiveness {aggressiveness}: expected 0 to 3")
        self._aggressiveness = aggressiveness

    def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        """One result per request, in order. Raises `ValueError` on samples that are no whole windows."""
        return unpack_results(self.detect_packed(pack_requests(requests, WEBRTC_STATE)))

    def detect_packed(self, batch: PackedRequests) -> PackedResults:
        """The same for requests that came packed."""
        probs = np.empty(len(batch.windows), np.float32)
        context = batch.context.copy()
        start = 0
        for row, count in enumerate(batch.counts.tolist()):
            heard = np.concatenate([batch.context[row], batch.windows[start : start + count].reshape(-1)])
            for index in range(count):
                begin = index * WINDOW_SAMPLES
                probs[start + index] = self._probability(heard[begin : begin + _HEARD_SAMPLES])
            context[row] = heard[len(heard) - WEBRTC_STATE.num_context_samples :]
            start += count
        return PackedResults(probs, batch.counts, batch.recurrent, context)

    def _probability(self, heard: Pcm16) -> float:
        """Share of voiced frames at the end of int16 `(16 * 512,)`."""
        vad = webrtcvad.Vad(self._aggressiveness)
        data = heard[_SKIPPED_SAMPLES:].tobytes()
        frame_bytes = 2 * _FRAME_SAMPLES
        votes: list[bool] = [
            vad.is_speech(data[at : at + frame_bytes], SAMPLE_RATE_HZ)
            for at in range(0, len(data), frame_bytes)
        ]
        return sum(votes[-_VOTING_FRAMES:]) / _VOTING_FRAMES
