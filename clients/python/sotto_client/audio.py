"""Audio as a client sends it: the server's sample rate, names of raw encodings, files decoded here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:  # nothing here needs numpy but `load_recording`
    import numpy as np
    import numpy.typing as npt

SAMPLE_RATE_HZ: Final = 16_000
"""Of audio without a `sample_rate`, and of every sample position in a message, at any rate of the audio."""

Pcm16: TypeAlias = "npt.NDArray[np.int16]"
"""Mono samples, int16 `(num_samples,)`."""

Encoding: TypeAlias = Literal["pcm16", "float32", "mulaw", "alaw"]

SAMPLE_BYTES: Final[dict[Encoding, int]] = {"pcm16": 2, "float32": 4, "mulaw": 1, "alaw": 1}

PCM_ENCODINGS: Final[dict[str, Encoding]] = {
    "pcm16": "pcm16",
    "pcm_s16le": "pcm16",
    "s16le": "pcm16",
    "linear16": "pcm16",
    "float32": "float32",
    "pcm_f32le": "float32",
    "f32le": "float32",
    "mulaw": "mulaw",
    "ulaw": "mulaw",
    "pcmu": "mulaw",
    "alaw": "alaw",
    "pcma": "alaw",
}
"""Every accepted spelling of a raw encoding, to its one name."""


def load_recording(path: Path) -> Pcm16:
    """Decode a file of any common format to 16 kHz; blocking. Needs PyAV: `sotto-client[files]`.

    Raises `OSError` where the file cannot be read, `ValueError` where it holds no audio that can be decoded.
    """
    try:
        import av
        import numpy as np
    except ImportError as error:
        raise ImportError("decoding a file needs PyAV: pip install 'sotto-client[files]'") from error

    parts: list[Pcm16] = []
    with path.open("rb") as file:
        try:
            # A playlist may name other files of this machine: none is opened.
            with av.open(file, options={"protocol_whitelist": "none"}) as container:
                resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
                for frame in (*container.decode(audio=0), None):
                    parts += (part.to_ndarray().reshape(-1) for part in resampler.resample(frame))
        except (av.FFmpegError, IndexError) as error:
            raise ValueError(f"{path} holds no audio that can be decoded ({error})") from error
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)
