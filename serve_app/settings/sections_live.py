"""Settings of sessions and recordings: recognition, speech, interim text, limits."""

from __future__ import annotations

from typing import Literal

from serve_app.settings.define import Section, setting


class RecognitionSection(Section):
    """Recognition"""

    language: str = setting(
        "auto",
        "Language of a session that names none: a code, `pt-BR`, `Portuguese`; auto: detect, then lock.",
        "WHISPER_LANGUAGE",
        max_length=40,
    )
    languages: tuple[str, ...] = setting(
        (), "The only languages that detection may find, commas between them: `en,de`; empty: any."
    )
    task: Literal["transcribe", "translate"] = setting("transcribe", "Write as spoken, or in English.")
    beam_size: int = setting(1, "Beams of finals and uploads; 1 is greedy.", "WHISPER_BEAM_SIZE", ge=1, le=20)
    interim_beam_size: int = setting(1, "Beams of interims.", ge=1, le=20)
    offline_beam_size: int | None = setting(None, "Beams of uploads; empty: as finals.", ge=1, le=20)
    language_mode: Literal["lock", "utterance"] = setting(
        "lock", "Where the language is detected: once for a session, or for every utterance anew."
    )
    language_lock_s: float = setting(
        4,
        "Seconds of speech in one language, weighted by probability, after which it is locked.",
        gt=0,
        le=600,
    )
    hotwords: str = setting(
        "", "Words to expect in every utterance: names, drugs, products.", max_length=1000
    )
    carry_context: bool = setting(
        False, "Decode each utterance of a session with the text before it in view."
    )
    initial_prompt: str = setting(
        "", "Text before the first utterance: names and spellings to expect.", max_length=1000
    )
    word_timestamps: bool = setting(True, "Times and probabilities of words in finals.")
    full_window_finals: bool = setting(
        False, "Encode 30 s for every final: slower, at most a point of word error rate better."
    )
    short_final_window_s: float = setting(
        10.0,
        "Seconds encoded at least for finals of up to 2 s; what is unsure then is read again in all 30.",
        ge=0,
        le=30,
    )
    guards_enabled: bool = setting(
        True, "Retry, drop or doubt texts that nobody said: on noise and music, loops, the unlikely."
    )
    withhold_doubted: bool = setting(
        False,
        "Keep text back that the guards doubt though speech was heard, and say so; off: it goes out with "
        "its low confidence.",
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
    streaming_policy: Literal["dual", "local_agreement", "align_att"] = setting(
        "dual",
        "How interim text is made; `simulstreaming` means align_att, `localagreement` local_agreement. "
        "align_att needs the torch or the mlx engine.",
        "BACKEND_POLICY",
    )
    min_chunk_s: float = setting(
        0.1,
        "Least new audio that a streaming policy decodes; partial_interval_ms where that is longer.",
        "MIN_CHUNK_SIZE",
        gt=0,
        le=30,
    )
    buffer_trimming: Literal["segment", "sentence"] = setting(
        "segment",
        "Where local_agreement and align_att give up audio whose text is certain.",
        "BUFFER_TRIMMING",
    )
    buffer_trimming_sec: float = setting(
        15,
        "Length of an utterance from which they do.",
        "BUFFER_TRIMMING_SEC",
        gt=0,
        le=30,
    )
    frame_threshold: int = setting(
        25,
        "align_att: text that attends to the last so many frames of 20 ms is not certain yet.",
        ge=1,
        le=500,
    )
    rewind_threshold: int = setting(
        200, "align_att: an answer whose attention jumps back by more frames is not used.", ge=1, le=1_500
    )


class SpeechSection(Section):
    """Speech and silence"""

    vad_enabled: bool = setting(
        True, "Find speech; off: finals on flush, end and maximum utterance only.", "VAD_ENABLED"
    )
    vad_backend: Literal["silero", "webrtc"] = setting("silero", "What tells speech from silence.")
    vad_threshold: float = setting(0.5, "Probability from which audio counts as speech.", gt=0, lt=1)
    vad_min_speech_ms: int = setting(250, "Less speech than this is noise.", ge=0, le=10_000)
    vad_min_silence_ms: int = setting(500, "Silence that ends an utterance.", ge=32, le=60_000)
    vad_pre_roll_ms: int = setting(200, "Audio kept before the first speech.", ge=0, le=5_000)
    vad_speech_pad_ms: int = setting(200, "Audio kept after the last speech.", ge=0, le=5_000)
    overlap_ms: int = setting(200, "Audio decoded on both sides of a cut inside speech.", ge=0, le=5_000)
    max_utterance_s: float = setting(30, "Longer utterances are cut.", ge=1, le=30)
    idle_final_s: float = setting(
        2,
        "Time without any audio after which what was said becomes a final, in doors whose clients do not "
        "flush; 0: never. A session chooses it with `idle_final_ms`, in any door.",
        ge=0,
        le=60,
    )


class SoundSection(Section):
    """Sound and writing"""

    dc_removal: bool = setting(False, "Take a constant offset out of the sound.")
    high_pass: bool = setting(False, "Take rumble out of the sound.")
    high_pass_hz: float = setting(80, "Frequency below which that is.", ge=20, le=400)
    gain_db: float = setting(0, "Make the sound louder or quieter by so much.", ge=-60, le=60)
    auto_gain: bool = setting(False, "Bring speech to an even level; not together with gain_db.")
    compressor: bool = setting(False, "Make loud syllables quieter.")
    limiter: bool = setting(False, "Round off what passes full scale instead of clipping it.")
    normalise_uploads: bool = setting(
        False, "Bring the peak of an uploaded recording to -1 dBFS before it is decoded."
    )
    level_warnings: bool = setting(
        False, "Tell live clients when their sound clips, is dead silent, too quiet or off centre."
    )
    format_casing: bool = setting(False, "Capitals at the start of sentences, and the English I.")
    format_spacing: bool = setting(False, "Single spaces, none before punctuation.")
    format_numerals: bool = setting(False, "Spoken numbers as digits, from ten on.")


class PartialSection(Section):
    """Interim text and scheduling"""

    partial_results: bool = setting(True, "Send interim text.")
    partial_interval_ms: int = setting(
        300, "Least time between two interims of a session.", "INTERIM_COOLDOWN_MS", ge=50, le=60_000
    )
    max_partial_window_s: float = setting(
        8, "Newest audio that an interim decodes.", "TAIL_SECONDS", ge=1, le=30
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
    final_queue_high: int = setting(
        6,
        "Waiting finals that mean high load.",
        "FINAL_HI",
        later="load is measured by time",
        ge=1,
        le=100_000,
    )
    final_queue_critical: int = setting(
        12,
        "Waiting finals that mean critical load.",
        "FINAL_CRIT",
        later="load is measured by time",
        ge=1,
        le=100_000,
    )
    interim_queue_high: int = setting(
        20,
        "Waiting interims that mean high load.",
        "INTERIM_HI",
        later="load is measured by time",
        ge=1,
        le=100_000,
    )
    interim_queue_critical: int = setting(
        40,
        "Waiting interims that mean critical load.",
        "INTERIM_CRIT",
        later="load is measured by time",
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


class LimitSection(Section):
    """Limits"""

    max_sessions: int = setting(100, "Live sessions of one ingress process.", ge=1, le=100_000)
    max_queue_depth: int = setting(100, "Decodes that may wait before new work is refused.", ge=1, le=100_000)
    max_estimated_server_total_ms: float = setting(
        500,
        "Refuse sessions when a result is expected to take longer.",
        later="sessions are admitted by number and queue depth",
        gt=0,
        le=600_000,
    )
    max_buffer_ms: int = setting(
        5_000, "Undecoded audio of a session before its socket is slowed down.", ge=100, le=600_000
    )
    max_frame_bytes: int = setting(1_048_576, "Largest WebSocket message.", ge=1_024, le=67_108_864)
    idle_timeout_s: float = setting(60, "End a session that sends nothing for so long.", gt=0, le=86_400)
    max_session_s: float = setting(14_400, "End a session after so long.", gt=0, le=604_800)
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
