"""Sounds in which nobody says a word: what a microphone hears between people, and where Whisper invents text.

Every generator is deterministic and gives int16 `(num_samples,)` at 16 kHz. `level_db` is the RMS in dBFS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

Samples = npt.NDArray[np.float64]

_DTMF_ROWS_HZ = (697, 770, 852, 941)
_DTMF_COLUMNS_HZ = (1209, 1336, 1477)


def silence(seconds: float, dither: int = 0) -> Pcm16:
    """Digital zeros, or with steps of at most `dither`."""
    return np.random.default_rng(0).integers(-dither, dither + 1, _num(seconds)).astype(np.int16)


def noise(seconds: float, level_db: float, slope: float = 0.0, seed: int = 0) -> Pcm16:
    """Noise whose power falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown."""
    return _at_level(_coloured(_num(seconds), slope, np.random.default_rng(seed)), level_db)


def hum(seconds: float, level_db: float, mains_hz: float = 50.0) -> Pcm16:
    """Mains hum with its harmonics."""
    time_s = _time(seconds)
    parts = [np.sin(2 * np.pi * mains_hz * k * time_s + k) / k for k in (1, 2, 3, 5, 7, 9)]
    return _at_level(np.sum(parts, axis=0), level_db)


def room_tone(seconds: float, level_db: float = -50.0, seed: int = 0) -> Pcm16:
    """A quiet office: brown noise, a fan's band with its slow beat, a trace of hum."""
    rng = np.random.default_rng(seed)
    time_s = _time(seconds)
    fan = _band(_coloured(len(time_s), 0.0, rng), 150, 900) * (1 + 0.3 * np.sin(2 * np.pi * 0.7 * time_s))
    brown = _coloured(len(time_s), 2.0, rng)
    return _at_level(brown + fan / fan.std() + 0.2 * np.sin(2 * np.pi * 100 * time_s), level_db)


def dtmf(seconds: float, level_db: float = -20.0, seed: int = 0) -> Pcm16:
    """Telephone keys: 120 ms tones, 80 ms pauses."""
    rng = np.random.default_rng(seed)
    out = np.zeros(_num(seconds))
    tone_s = _time(0.12)
    for at in range(0, len(out) - len(tone_s), _num(0.2)):
        row, column = rng.choice(_DTMF_ROWS_HZ), rng.choice(_DTMF_COLUMNS_HZ)
        out[at : at + len(tone_s)] = np.sin(2 * np.pi * row * tone_s) + np.sin(2 * np.pi * column * tone_s)
    return _at_level(out, level_db)


def chords(seconds: float, level_db: float = -20.0, *, plucked: bool = False, seed: int = 0) -> Pcm16:
    """Triads of about a second: held like an organ's, or plucked like a guitar's."""
    rng = np.random.default_rng(seed)
    out = np.zeros(_num(seconds))
    at = 0
    while at < len(out):
        length = min(_num(rng.uniform(0.5, 1.5)), len(out) - at)
        time_s = np.arange(length) / SAMPLE_RATE_HZ
        root_hz = 110 * 2 ** (rng.integers(0, 24) / 12)
        envelope = np.exp(-3 * time_s) if plucked else np.minimum(1, 20 * time_s)
        for interval in (0, rng.choice([3, 4]), 7, 12):
            hz = root_hz * 2 ** (interval / 12)
            for harmonic in range(1, 8):
                out[at : at + length] += envelope * np.sin(2 * np.pi * hz * harmonic * time_s) / harmonic**1.3
        at += length
    return _at_level(out, level_db)


def drums(seconds: float, level_db: float = -20.0, seed: int = 0) -> Pcm16:
    """A falling kick, a snare of noise and a hi-hat at 110 beats a minute."""
    rng = np.random.default_rng(seed)
    out = np.zeros(_num(seconds))
    hit_s = _time(0.25)
    kick = np.sin(2 * np.pi * (45 * hit_s + 8 * (1 - np.exp(-20 * hit_s)))) * np.exp(-14 * hit_s)
    for beat, at in enumerate(range(0, len(out) - len(hit_s), _num(60 / 110 / 2))):
        hit = 0.2 * rng.standard_normal(len(hit_s)) * np.exp(-60 * hit_s)
        if beat % 4 == 0:
            hit = hit + 1.5 * kick
        elif beat % 4 == 2:
            hit = hit + 0.6 * rng.standard_normal(len(hit_s)) * np.exp(-18 * hit_s)
        out[at : at + len(hit_s)] += hit
    return _at_level(out, level_db)


def whistle(seconds: float, level_db: float = -25.0, seed: int = 0) -> Pcm16:
    """A tone that glides between 600 and 2,000 Hz with vibrato and fades: whistling, a siren, a bird."""
    rng = np.random.default_rng(seed)
    time_s = _time(seconds)
    knots_s = np.arange(0.0, seconds + 1.0, 0.6)
    hz = np.interp(time_s, knots_s, rng.uniform(600, 2000, len(knots_s))) + 15 * np.sin(
        2 * np.pi * 6 * time_s
    )
    fade = np.interp(time_s, knots_s, rng.uniform(0.0, 1.0, len(knots_s)))
    return _at_level(fade * np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ), level_db)


def clicks(seconds: float, level_db: float = -35.0, per_s: float = 6.0, seed: int = 0) -> Pcm16:
    """Keys of a keyboard: short bursts at random times over a quiet room."""
    rng = np.random.default_rng(seed)
    out = 0.01 * _coloured(_num(seconds), 1.0, rng)
    burst_s = _time(0.02)
    for at in rng.integers(0, len(out) - len(burst_s), max(1, int(per_s * seconds))):
        burst = rng.standard_normal(len(burst_s)) * np.exp(-300 * burst_s)
        out[at : at + len(burst_s)] += burst * rng.uniform(0.4, 1)
    return _at_level(out, level_db)


def breaths(seconds: float, level_db: float = -40.0, seed: int = 0) -> Pcm16:
    """Breathing into a headset: swelling noise, half a second to one and a half at a time."""
    rng = np.random.default_rng(seed)
    out = 0.02 * _coloured(_num(seconds), 1.0, rng)
    at = 0
    while at < len(out):
        length = min(_num(rng.uniform(0.5, 1.5)), len(out) - at)
        out[at : at + length] += np.hanning(length) * _band(rng.standard_normal(length), 300, 3500)
        at += length + _num(rng.uniform(0.4, 1.5))
    return _at_level(out, level_db)


def babble(
    voices: Sequence[Pcm16],
    seconds: float,
    level_db: float = -25.0,
    *,
    num_voices: int = 8,
    reverse: bool = True,
    seed: int = 0,
) -> Pcm16:
    """A canteen: `num_voices` recordings over one another at the same loudness, each from anywhere.

    Reversed in time (the default) there is no word in it at all; forwards there are words, none of which
    can be told from the others'.
    """
    rng = np.random.default_rng(seed)
    out = np.zeros(_num(seconds))
    for _ in range(num_voices):
        voice = np.asarray(voices[int(rng.integers(len(voices)))], np.float64)
        voice = np.roll(voice[::-1] if reverse else voice, int(rng.integers(len(voice))))
        out += np.resize(voice, len(out)) / max(1.0, float(np.sqrt(np.mean(voice**2))))
    return _at_level(out, level_db)


def mixed(speech: Pcm16, behind: Pcm16, snr_db: float) -> Pcm16:
    """Speech with a sound behind it, `snr_db` under it; the sound is repeated where it is too short."""
    sound = np.resize(np.asarray(behind, np.float64), len(speech))
    voice = np.asarray(speech, np.float64)
    gain = np.sqrt(float(np.mean(voice**2)) / max(1.0, float(np.mean(sound**2)))) * 10 ** (-snr_db / 20)
    joined: Pcm16 = np.clip(voice + gain * sound, -32_768, 32_767).astype(np.int16)
    return joined


def louder(audio: Pcm16, gain_db: float) -> Pcm16:
    return np.clip(np.round(audio * 10 ** (gain_db / 20)), -32_768, 32_767).astype(np.int16)


def sounds(seconds: float, voices: Sequence[Pcm16], seed: int = 0) -> Iterator[tuple[str, Pcm16]]:
    """One of each kind, by name; another `seed` gives other sounds of the same kinds."""
    makers: dict[str, Callable[[], Pcm16]] = {
        "silence": lambda: silence(seconds),
        "dither": lambda: silence(seconds, dither=40),
        "organ": lambda: chords(seconds, seed=seed),
        "guitar": lambda: chords(seconds, plucked=True, seed=seed),
        "drums": lambda: drums(seconds, seed=seed),
        "dtmf": lambda: dtmf(seconds, seed=seed),
        "whistle": lambda: whistle(seconds, seed=seed),
        "clicks": lambda: clicks(seconds, seed=seed),
        "breaths": lambda: breaths(seconds, seed=seed),
        "room": lambda: room_tone(seconds, seed=seed),
        "hum_50": lambda: hum(seconds, -28.0),
        "hum_60": lambda: hum(seconds, -40.0, 60.0),
    }
    for name, slope in (("white", 0.0), ("pink", 1.0), ("brown", 2.0)):
        for level_db in (-50, -30, -15):
            makers[f"{name}_{-level_db}"] = lambda s=slope, d=level_db: noise(seconds, d, s, seed)  # type: ignore[misc]
    if voices:
        for count in (6, 12):
            makers[f"babble_reversed_{count}"] = lambda n=count: babble(
                voices, seconds, num_voices=n, seed=seed
            )  # type: ignore[misc]
            makers[f"babble_{count}"] = lambda n=count: babble(  # type: ignore[misc]
                voices, seconds, num_voices=n, reverse=False, seed=seed
            )
    for name, make in makers.items():
        yield name, make()


def _num(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)


def _time(seconds: float) -> Samples:
    return np.arange(_num(seconds)) / SAMPLE_RATE_HZ


def _coloured(num: int, slope: float, rng: np.random.Generator) -> Samples:
    """Noise of unit RMS."""
    spectrum = np.fft.rfft(rng.standard_normal(num))
    hz = np.fft.rfftfreq(num, 1 / SAMPLE_RATE_HZ)
    spectrum *= np.maximum(hz, 20.0) ** (-slope / 2)
    coloured: Samples = np.fft.irfft(spectrum, num)
    coloured /= coloured.std()
    return coloured


def _band(samples: Samples, low_hz: float, high_hz: float) -> Samples:
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    banded: Samples = np.fft.irfft(spectrum, len(samples))
    return banded


def _at_level(samples: Samples, level_db: float) -> Pcm16:
    rms = max(1e-12, float(np.sqrt(np.mean(samples**2))))
    scaled = samples * (32_768 * 10 ** (level_db / 20) / rms)
    return np.clip(np.round(scaled), -32_768, 32_767).astype(np.int16)
