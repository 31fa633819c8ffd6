"""What each option means, in one sentence: for the API documents and docs/api.md."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SESSION_MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lang_code": "Language of the speech: a code, `pt-BR`, a name, or `auto`.",
        "language": "The same under its other name.",
        "languages": "The only languages that may be detected: a list, or commas between them.",
        "sample_rate": "Samples a second of raw audio, 16000 unless given.",
        "idle_final_ms": "Time without any audio after which what was said becomes a final; 0: never.",
        "encoding": "Raw samples: `pcm16` (default), `float32`, `mulaw` or `alaw`, or other names of these.",
        "channels": "Interleaved channels of raw audio, 1 unless given; mixed, unless each is a speaker.",
        "vad_enabled": "Find speech; off: finals on flush, end and maximum utterance only.",
        "vad_threshold": "Probability from which audio counts as speech.",
        "partial_results": "Send interim text.",
        "word_timestamps": "Times and probabilities of words in finals.",
        "task": "Write as spoken (`transcribe`), or in English (`translate`).",
        "prompt": "Text to expect before the first utterance: names and spellings.",
        "hotwords": "Words to expect in every utterance, separated by commas.",
        "carry_context": "Decode each utterance with the text before it in view.",
        "language_mode": "Detect the language once (`lock`), or for every `utterance` anew.",
        "language_lock_s": "Seconds of speech in one language after which it is locked.",
        "streaming_policy": "How interim text is made: `dual`, `local_agreement` or `align_att`.",
        "auto_gain": "Bring speech to an even level.",
        "high_pass": "Take rumble out of the sound.",
        "withhold_doubted": "Keep text back that is doubted though speech was heard, and say so.",
        "level_warnings": "Tell when the sound clips, is dead silent, too quiet or off centre.",
        "diarization": "Tell speakers apart.",
        "diarize": "The same under its other name.",
        "diarization_backend": "`channel`: each channel of raw audio is a speaker; others: by their voices.",
        "num_speakers": "So many speakers, exactly.",
        "min_speakers": "So many at least.",
        "max_speakers": "So many at most.",
        "smart_format": "Write capitals, spacing and numbers.",
        "numerals": "Write spoken numbers as digits; wins over `smart_format`.",
        "min_chunk_ms": "Least new audio that a streaming policy decodes.",
        "buffer_trimming": "Where `local_agreement` and `align_att` give up audio: `segment` or `sentence`.",
        "buffer_trimming_s": "Length of an utterance from which they do.",
        "frame_threshold": "`align_att`: text that attends to the last so many 20 ms frames is not certain.",
        "min_speech_ms": "Less speech than this is noise.",
        "min_silence_ms": "Silence that ends an utterance.",
        "pre_roll_ms": "Audio kept before the first speech.",
        "speech_pad_ms": "Audio kept after the last speech.",
        "overlap_ms": "Audio decoded on both sides of a cut inside speech.",
        "max_utterance_ms": "Longer utterances are cut.",
        "partial_interval_ms": "Least time between two interims.",
        "max_partial_window_ms": "Newest audio that an interim decodes.",
    }
)

ADDRESS_MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "session_id": "An id of your own, unique among open sessions; else the server makes one.",
        "vad_filter": "`vad_enabled` under its upload name.",
        "only_new_words": "Interims carry only what is new and will stay.",
        "resume": "Ticket of a session to go on with; empty: a new one that can be.",
        "mode": "`full`: every update repeats all lines; `diff`: only what changed.",
        "target_language": "`en` translates into English; there is no other.",
        "protocol": "What this socket speaks, where the first frame shall not decide.",
    }
)

SPEAKER_MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "diarize": "Say who spoke.",
        "num_speakers": "So many speakers; else they are counted.",
        "min_speakers": "Not fewer speakers.",
        "max_speakers": "Not more speakers.",
        "diarization_backend": "What tells speakers apart: their voices, or the `channel` each is heard on.",
    }
)

UPLOAD_MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "language": "Language of the speech: a code, `pt-BR`, a name, or `auto`.",
        "languages": "The only languages that may be detected, commas between them.",
        "withhold_doubted": "Keep text back that is doubted though speech was heard, and count it.",
        "response_format": "`json`, `text`, `srt` or `vtt`.",
        "word_timestamps": "Add `words` with their times to the JSON.",
        "vad_filter": "Leave silence out before decoding.",
        "task": "Write as spoken (`transcribe`), or in English (`translate`).",
        "prompt": "Text to expect: names and spellings.",
        "hotwords": "Words to expect, separated by commas.",
        "beam_size": "Beams of the search; 1 is greedy.",
        "temperature": "Randomness of the search; 0 is none.",
        "normalise": "Bring the recording's peak to -1 dBFS first.",
        "smart_format": "Write capitals, spacing and numbers.",
        **SPEAKER_MEANINGS,
        "audio_track": "Which of several audio tracks, from 0; else the default one.",
    }
)

LISTEN_MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "model": "Any name: the server's own models answer.",
        "version": "Any but `latest` is answered with a warning.",
        "language": "Language of the speech; `multi` detects it for every utterance.",
        "encoding": "Raw samples: `linear16`, `linear32`, `mulaw`, `alaw`; else a container.",
        "sample_rate": "Samples a second, needed with `linear16` and `linear32`.",
        "channels": "Interleaved channels of raw audio.",
        "multichannel": "A transcript for each channel, of live containers one of their mix.",
        "interim_results": "Send results that are not final.",
        "endpointing": "Milliseconds of silence that end an utterance (300 at least), or `false`.",
        "utterance_end_ms": "Send `UtteranceEnd` after so long (at least 1000) without words; with interims.",
        "vad_events": "Send `SpeechStarted`.",
        "diarize": "Tell speakers apart: words have `speaker`, counted from 0.",
        "diarize_model": "The same; whichever is named, the server's own tells them apart.",
        "punctuate": "Punctuation and capitals.",
        "smart_format": "The same, and numbers as digits.",
        "numerals": "Numbers as digits.",
        "paragraphs": "Add paragraphs.",
        "utterances": "Add utterances, split at pauses.",
        "utt_split": "Seconds of pause that split utterances.",
        "keyterm": "A word or phrase to expect.",
        "keywords": "The same, `word:boost`; the boost is ignored.",
        "replace": "`spoken:written`, a word to write otherwise.",
        "search": "A phrase to find.",
        "tag": "A label that the metadata repeats.",
        "extra": "`key:value`, which the metadata repeats.",
        "detect_language": "Detect the language, of those named alone where some are.",
    }
)

MEANINGS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "SessionChoices": SESSION_MEANINGS,
        "_SessionQuery": {**SESSION_MEANINGS, **ADDRESS_MEANINGS},
        "TextOptions": ADDRESS_MEANINGS,
        "_Options": ADDRESS_MEANINGS,
        "UploadChoices": UPLOAD_MEANINGS,
        "TranscriptionRequest": SPEAKER_MEANINGS,
        "_Query": LISTEN_MEANINGS,
    }
)
"""By the name of the record."""
