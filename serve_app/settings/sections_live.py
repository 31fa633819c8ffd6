"""Settings of sessions and recordings: recognition, speech, interim text, limits."""

from __future__ import annotations

from typing import Any, Literal

from serve_app.core.jobs import FrameThreshold
from serve_app.session.options import (
    AutoGain,
    BeamSize,
    CarryContext,
    HighPass,
    Hotwords,
    IdleFinalMs,
    Language,
    LanguageLockS,
    LanguageMode,
    LevelWarnings,
    MaxPartialWindowMs,
    Normalise,
    PartialIntervalMs,
    PartialResults,
    Prompt,
    SessionOptions,
    TaskName,
    WithholdDoubted,
    WordTimestamps,
)
from serve_app.settings.define import Section, setting
from serve_app.streaming.policy import MinChunkMs, PolicyName, PolicySpelling, Trimming, TrimmingS
from serve_app.vad.options import (
    MaxUtteranceMs,
    MinSilenceMs,
    MinSpeechMs,
    OverlapMs,
    PreRollMs,
    SpeechPadMs,
    VadEnabled,
    VadThreshold,
)

_SESSION = SessionOptions(session_id="")
"""The defaults of a session's options."""


class RecognitionSection(Section):
    """Recognition"""

    language: str = setting(
        "auto",
        Language,
        "WHISPER_LANGUAGE",
        more="; for sessions that name none. With `auto` it is detected, then locked",
    )
    languages: tuple[str, ...] = setting(
        (), "The only languages that detection may find, commas between them: `en,de`; empty: any."
    )
    task: Literal["transcribe", "translate"] = setting(_SESSION.task.value, TaskName)
    beam_size: int = setting(1, BeamSize, "WHISPER_BEAM_SIZE", more=". For finals and uploads")
    interim_beam_size: int = setting(1, BeamSize, more=". For interims")
    offline_beam_size: int | None = setting(None, BeamSize, more=". For uploads; empty: as finals")
    language_mode: Literal["lock", "utterance"] = setting("lock", LanguageMode)
    language_lock_s: float = setting(_SESSION.language_lock_s, LanguageLockS)
    hotwords: str = setting(_SESSION.hotwords, Hotwords)
    keyterm_method: Literal["lift", "prompt", "both"] = setting(
        "lift",
        "How words are expected: the search may `lift` them, in all engines but CTranslate2, or they stand "
        "in the `prompt`, or `both`.",
    )
    carry_context: bool = setting(_SESSION.carry_context, CarryContext)
    initial_prompt: str = setting(_SESSION.prompt, Prompt)
    word_timestamps: bool = setting(_SESSION.word_timestamps, WordTimestamps)
    full_window_finals: bool = setting(
        False, "Encode 30 s for every final: slower, at most a point of word error rate better."
    )
    short_final_window_s: float = setting(
        10.0,
        "Seconds encoded at least for finals of up to 2 s; the unsure are read again in all 30 s. Up to "
        "1.2 s are read so at once. 0: as longer ones.",
        ge=0,
        le=30,
    )
    guards_enabled: bool = setting(
        True, "Retry, drop or doubt texts that nobody said: on noise and music, loops, the unlikely."
    )
    withhold_doubted: bool = setting(
        _SESSION.withhold_doubted, WithholdDoubted, more="; off: it goes out with its low confidence"
    )
    compression_ratio_threshold: float = setting(
        2.4, "A text that compresses better than this is decoded again.", gt=1, le=100
    )
    logprob_threshold: float = setting(
        -1.0, "A final whose tokens have a lower mean log-probability is decoded again.", ge=-100, le=0
    )
    voice_threshold: float = setting(
        0.4, "Least voice that a doubtful text needs in its audio; 0: none.", ge=0, le=1
    )
    streaming_policy: PolicyName = setting(
        _SESSION.policy.name,
        PolicySpelling,
        "BACKEND_POLICY",
        more="; `simulstreaming` means align_att, `localagreement` local_agreement. align_att needs "
        "the onnx, the torch or the mlx engine",
    )
    min_chunk_s: float = setting(
        _SESSION.policy.min_chunk_ms,
        MinChunkMs,
        "MIN_CHUNK_SIZE",
        more="; partial_interval_ms where that is longer",
        in_s=True,
    )
    buffer_trimming: Literal["segment", "sentence"] = setting(
        _SESSION.policy.trimming, Trimming, "BUFFER_TRIMMING"
    )
    buffer_trimming_sec: float = setting(_SESSION.policy.trimming_s, TrimmingS, "BUFFER_TRIMMING_SEC")
    frame_threshold: int = setting(_SESSION.policy.attention.frame_threshold, FrameThreshold)
    rewind_threshold: int = setting(
        _SESSION.policy.attention.rewind_threshold,
        "align_att: an answer whose attention jumps back by more frames is not used.",
        ge=1,
        le=1_500,
    )


class SpeechSection(Section):
    """Speech and silence"""

    vad_enabled: bool = setting(_SESSION.endpointing.enabled, VadEnabled, "VAD_ENABLED")
    vad_backend: Literal["silero", "webrtc"] = setting("silero", "What tells speech from silence.")
    vad_placement: Literal["auto", "ingress", "deployment"] = setting(
        "auto",
        "Where that runs: on a thread of each ingress replica, which costs least where models share its "
        "cores, or in the `VoiceActivity` deployment; auto: in the ingress on CPUs.",
    )
    vad_threshold: float = setting(_SESSION.endpointing.threshold, VadThreshold)
    vad_min_speech_ms: int = setting(_SESSION.endpointing.min_speech_ms, MinSpeechMs)
    vad_min_silence_ms: int = setting(_SESSION.endpointing.min_silence_ms, MinSilenceMs)
    vad_pre_roll_ms: int = setting(_SESSION.endpointing.pre_roll_ms, PreRollMs)
    vad_speech_pad_ms: int = setting(_SESSION.endpointing.speech_pad_ms, SpeechPadMs)
    overlap_ms: int = setting(_SESSION.endpointing.overlap_ms, OverlapMs)
    max_utterance_s: float = setting(_SESSION.endpointing.max_utterance_ms, MaxUtteranceMs, in_s=True)
    idle_final_s: float = setting(
        2_000,
        IdleFinalMs,
        more=". This holds in doors whose clients do not flush; a session chooses it with `idle_final_ms`, "
        "in any door",
        in_s=True,
    )


class SoundSection(Section):
    """Sound and writing"""

    dc_removal: bool = setting(False, "Take a constant offset out of the sound.")
    high_pass: bool = setting(_SESSION.conditioning.high_pass, HighPass)
    high_pass_hz: float = setting(80, "Frequency below which that is.", ge=20, le=400)
    gain_db: float = setting(0, "Make the sound louder or quieter by so much.", ge=-60, le=60)
    auto_gain: bool = setting(_SESSION.conditioning.auto_gain, AutoGain, more="; not together with gain_db")
    compressor: bool = setting(False, "Make loud syllables quieter.")
    limiter: bool = setting(False, "Round off what passes full scale instead of clipping it.")
    normalise_uploads: bool = setting(False, Normalise)
    level_warnings: bool = setting(_SESSION.level_warnings, LevelWarnings)
    format_casing: bool = setting(False, "Capitals at the start of sentences, and the English I.")
    format_spacing: bool = setting(False, "Single spaces, none before punctuation.")
    format_numerals: bool = setting(False, "Spoken numbers as digits, from ten on.")


class PartialSection(Section):
    """Interim text and scheduling"""

    partial_results: bool = setting(_SESSION.partials, PartialResults)
    partial_interval_ms: int = setting(_SESSION.partial_interval_ms, PartialIntervalMs, "INTERIM_COOLDOWN_MS")
    max_partial_window_s: float = setting(
        _SESSION.max_partial_window_ms, MaxPartialWindowMs, "TAIL_SECONDS", in_s=True
    )
    tick_ms: int = setting(
        64, "How often work of all sessions is gathered and sent.", "SCHEDULER_TICK_MS", ge=5, le=1_000
    )
    speculative_finals: bool = setting(
        True, "Start a final while the silence that ends its utterance is still running."
    )
    interim_share: float = setting(
        0.35, "Share of the recogniser's workers that interims may use on shared cores.", gt=0, le=1
    )
    final_fallback: bool = setting(
        True,
        "Under the heaviest load let the interim model decode finals, where it is another one and knows "
        "their language; such a final names its model.",
    )
    final_queue_high: int | None = setting(
        None,
        "Finals in the recogniser's hands that mean high load; empty: 6, and 3 for each that is decoded at "
        "once.",
        "FINAL_HI",
        ge=1,
        le=100_000,
    )
    final_queue_critical: int | None = setting(
        None,
        "The same for critical load; empty: twice that of high load.",
        "FINAL_CRIT",
        ge=1,
        le=100_000,
    )
    interim_queue_high: int | None = setting(
        None,
        "Interims there, or due for more than 2 s, that mean high load; empty: 20, and 3 for each that is "
        "decoded at once.",
        "INTERIM_HI",
        ge=1,
        le=100_000,
    )
    interim_queue_critical: int | None = setting(
        None,
        "The same for critical load; empty: twice that of high load.",
        "INTERIM_CRIT",
        ge=1,
        le=100_000,
    )


class DoorSection(Section):
    """Doors"""

    ws_protocol: Literal["auto", "interim_final", "whisperlivekit"] = setting(
        "auto",
        "What `/ws` speaks: auto tells by the first frame (JSON: interim, final and status messages; else "
        "WhisperLiveKit's updates). An address with `?protocol=` says it for itself.",
    )


_COUNT: dict[str, Any] = {"ge": 1, "le": 1_000_000_000}
_AMOUNT: dict[str, Any] = {"gt": 0, "le": 1_000_000_000}


class LimitSection(Section):
    """Limits"""

    max_sessions: int | None = setting(
        None,
        "Live sessions of one ingress process; empty: as many as the recogniser measures that it can decode "
        "in time, and 100 on GPUs, where replicas are added.",
        ge=1,
        le=100_000,
    )
    max_queue_depth: int = setting(100, "Decodes that may wait before new work is refused.", ge=1, le=100_000)
    max_estimated_server_total_ms: float = setting(
        500,
        "Refuse new sessions when finals that wait for a worker are expected to take longer, the decode "
        "included. Load takes from interims first (operations.md).",
        gt=0,
        le=600_000,
    )
    max_buffer_ms: int = setting(
        5_000, "Undecoded audio of a session before its socket is slowed down.", ge=100, le=600_000
    )
    max_frame_bytes: int = setting(1_048_576, "Largest WebSocket message.", ge=1_024, le=67_108_864)
    sessions_per_key: int | None = setting(
        None, "Live sessions at once of one key that has no limit of its own. Empty: no limit.", **_COUNT
    )
    requests_per_minute_per_key: int | None = setting(
        None,
        "Requests and connections a minute of one key that has no limit of its own. Empty: no limit.",
        **_COUNT,
    )
    requests_per_day_per_key: int | None = setting(
        None,
        "Requests and connections a day of one key that has no limit of its own. Empty: no limit.",
        **_COUNT,
    )
    audio_minutes_per_minute_per_key: float | None = setting(
        None, "Minutes of audio a minute of one key that has no limit of its own. Empty: no limit.", **_AMOUNT
    )
    audio_minutes_per_day_per_key: float | None = setting(
        None, "Minutes of audio a day of one key that has no limit of its own. Empty: no limit.", **_AMOUNT
    )
    sessions_per_address: int | None = setting(
        None, "Live sessions at once of one address. Empty: no limit.", **_COUNT
    )
    requests_per_minute_per_address: int | None = setting(
        None, "Requests and connections a minute of one address. Empty: no limit.", **_COUNT
    )
    requests_per_day_per_address: int | None = setting(
        None, "Requests and connections a day of one address. Empty: no limit.", **_COUNT
    )
    audio_minutes_per_minute_per_address: float | None = setting(
        None, "Minutes of audio a minute of one address. Empty: no limit.", **_AMOUNT
    )
    audio_minutes_per_day_per_address: float | None = setting(
        None, "Minutes of audio a day of one address. Empty: no limit.", **_AMOUNT
    )
    start_timeout_s: float = setting(
        60, "Close a socket on which no session has started for so long.", gt=0, le=86_400
    )
    min_upload_bytes_per_s: float = setting(
        500, "Give up on an upload that comes slower on average, after 15 s.", gt=0, le=1_000_000_000
    )
    upload_timeout_s: float = setting(
        3_600, "Give up on an upload that takes longer to come.", gt=0, le=604_800
    )
    idle_timeout_s: float = setting(60, "End a session that sends nothing for so long.", gt=0, le=86_400)
    max_session_s: float = setting(14_400, "End a session after so long.", gt=0, le=604_800)
    request_timeout_s: float = setting(
        0, "Give up on an uploaded recording that takes longer to transcribe; 0: never.", ge=0, le=604_800
    )
    heartbeat_s: float = setting(10, "Time between heartbeats on a quiet stream.", gt=0, le=3_600)
    max_file_size_mb: float = setting(
        2_048, "Largest upload, in MiB.", "MAX_FILE_SIZE_MB", gt=0, le=1_048_576
    )
    max_audio_length_seconds: float = setting(
        14_400, "Longest recording.", "MAX_AUDIO_LENGTH_SECONDS", gt=0, le=604_800
    )
    min_audio_length_seconds: float = setting(
        0.1, "Shortest recording.", "MIN_AUDIO_LENGTH_SECONDS", ge=0, le=60
    )
    allowed_formats: tuple[str, ...] = setting(
        ("wav", "mp3", "ogg", "opus", "flac", "m4a", "mp4", "webm", "aac", "aiff", "amr", "caf"),
        "Containers that uploads may come in, separated by commas.",
        "ALLOWED_FORMATS",
        min_length=1,
        max_length=64,
    )
