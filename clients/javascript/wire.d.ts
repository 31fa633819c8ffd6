/**
 * What the server writes in its own protocol, under the names of the wire.
 *
 * Made by `python -m serve_app.protocols.documents.typescript` from clients/python/sotto_client/wire.py.
 */

/** The session takes audio. */
export interface SessionStarted {
  type: "session_started";
  /** The client's own id, or one that the server made. */
  session_id: string;
  /** Whether it continues the session of a ticket. */
  resumed?: boolean;
  /** The 16 kHz sample from which a client sends its audio again if it resumes. */
  resume_from_samples?: number;
  /** Presented as `resume`, it continues the session. */
  ticket?: string;
}

/** Audio before 16 kHz sample `resume_from_samples` is not needed any more. */
export interface Ticket {
  type: "ticket";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** The 16 kHz sample from which a client sends its audio again if it resumes. */
  resume_from_samples: number;
  /** Presented as `resume`, it continues the session. */
  ticket: string;
}

/** Speech begins or ends. */
export interface VadEvent {
  type: "vad_event";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** Which of the two. */
  state: "speech_start" | "speech_end";
  /** Milliseconds from the first sample. */
  t_ms: number;
}

/** The sound is bad; only with `level_warnings`. */
export interface AudioWarning {
  type: "audio_warning";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** What is wrong. */
  kind: "clipping" | "dead_silence" | "low_level" | "dc_offset";
  /** Milliseconds from the first sample. */
  t_ms: number;
  /** The measured level. */
  value: number;
}

/** How sure the voice detector is of speech; only with the choice `speech_probability`. */
export interface SpeechProbability {
  type: "speech_probability";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** Milliseconds of audio that it had heard by then. */
  t_ms: number;
  /** From 0 to 1: the highest since the message before. */
  probability: number;
}

/** A model has said nothing for five seconds though it was asked, or says something again. No word is lost: what it did not answer is asked again. */
export interface ModelStatus {
  type: "model_status";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** Which of the two. */
  state: "stalled" | "resumed";
  /** Milliseconds of audio that were taken by then. */
  t_ms: number;
  /** Milliseconds since it should have said something. */
  waited_ms: number;
}

/** How busy the server is and what gives way for it, whenever that changes. Finals never do: under the heaviest load another model may decode them, which their `timing` names. */
export interface LoadStatus {
  type: "load_status";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** How busy. */
  level: "normal" | "high" | "critical";
  /** What gives way, each with those before it. */
  rung: "normal" | "interims_slower" | "interims_shorter" | "no_speculation" | "no_interims" | "smaller_finals" | "full";
  /** No interims come for now. */
  interims_paused: boolean;
}

/** Interim text of the segment in progress. */
export interface PartialTranscript {
  type: "partial_transcript";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** The same in the interims, final and revisions of a segment. */
  segment_id: string;
  /** All of it; with `only_new_words` what is new and will stay. */
  text: string;
  /** The probability of the text, from 0 to 1. */
  confidence: number;
  is_final: false;
  /** Number of code points at the start of `text` that do not change any more. */
  stable_chars: number;
  language: string;
  /** Milliseconds at which the segment begins. */
  start_ms: number;
  /** Milliseconds at which the audio of the text ends. */
  end_ms: number;
  timing: Timing;
  /** With `only_new_words`: how many code points of what was sent of the segment stay. */
  keep_chars?: number;
}

/** Milliseconds of one result inside the server, and the model it came from. */
export interface Timing {
  preprocess_ms: number;
  queue_wait_ms: number;
  inference_ms: number;
  postprocess_ms: number;
  server_total_ms: number;
  model: string;
}

/** Text of a finished segment, once and in order. */
export interface FinalTranscript {
  type: "final_transcript";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** The same in the interims, final and revisions of a segment. */
  segment_id: string;
  /** Empty: what was shown of the segment is taken back. */
  text: string;
  /** The probability of the text, from 0 to 1. */
  confidence: number;
  is_final: true;
  /** `SPEAKER_01` and so on, null: not known yet. Only where speakers are told apart. */
  speaker?: string | null;
  /** Where words were asked for, else empty. */
  words: Word[];
  audio_duration_ms: number;
  language: string;
  language_probability: number;
  /** Milliseconds at which the segment begins. */
  start_ms: number;
  /** Milliseconds at which the audio of the text ends. */
  end_ms: number;
  /** Milliseconds at which the segment could be closed: the end of its silence, or its cut. */
  endpoint_ms: number;
  timing: Timing;
  /** Why a guard does not believe the text. */
  doubted?: string;
  /** Why there is no text. */
  withheld?: string;
  /** The 16 kHz sample from which a client sends its audio again if it resumes. */
  resume_from_samples?: number;
  /** Presented as `resume`, it continues the session. */
  ticket?: string;
  /** With `only_new_words`: the text that is new. */
  new_text?: string;
  /** With `only_new_words`: how many code points of what was sent of the segment stay. */
  keep_chars?: number;
}

/** A word as spoken, without punctuation. */
export interface Word {
  word: string;
  /** Seconds from the first sample. */
  start: number;
  /** Seconds from the first sample. */
  end: number;
  probability: number;
  /** `SPEAKER_01` and so on, null: not known yet. Only where speakers are told apart. */
  speaker?: string | null;
}

/** Who spoke a final that was sent: known now, or known better. */
export interface SpeakerRevision {
  type: "speaker_revision";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** The same in the interims, final and revisions of a segment. */
  segment_id: string;
  /** Who spoke most of it; null: not known. */
  speaker: string | null;
  /** The speaker of each of the final's words; null: it was sent on an earlier connection. */
  words: (string | null)[] | null;
  /** Milliseconds at which the segment begins. */
  start_ms: number;
  /** Milliseconds at which the audio of the text ends. */
  end_ms: number;
  /** The 16 kHz sample from which a client sends its audio again if it resumes. */
  resume_from_samples?: number;
  /** Presented as `resume`, it continues the session. */
  ticket?: string;
}

/** Something was refused or failed. */
export interface Error {
  type: "error";
  code: string;
  message: string;
  /** Null before a session. */
  session_id: string | null;
  /** The same may succeed later. */
  retryable: boolean;
}

/** The last message. */
export interface SessionEnded {
  type: "session_ended";
  /** The id of the session, as `session_started` said it. */
  session_id: string;
  /** Why. */
  reason: "completed" | "cancelled" | "error" | "timeout";
  /** Milliseconds of audio that were taken. */
  total_audio_ms: number;
  /** Finals with text. */
  total_segments: number;
}

/** Nothing else to say (`POST /transcribe/stream`). */
export interface Heartbeat {
  type: "heartbeat";
  /** Milliseconds of audio that were taken. */
  t_ms: number;
}

/** The connection is alive; `pong` may answer it (`/ws/stream`). */
export interface Ping {
  type: "ping";
}

/** The answer to a `ping` of the client (`/ws/stream`). */
export interface Pong {
  type: "pong";
}

/** A recording's text (`POST /transcribe`). */
export interface Transcript {
  transcript: string;
  /** The same as `language_probability`. */
  confidence: number | null;
  language: string;
  language_probability: number | null;
  /** Seconds of audio. */
  duration: number;
  segments: Segment[];
  processing_time: ProcessingTime;
  /** Time of recognition over `duration`. */
  real_time_factor: number;
  model: string;
  /** When it was answered, ISO 8601. */
  timestamp: string;
  cached: boolean;
  /** When the text was put into the cache, ISO 8601. */
  cached_at?: string;
  /** When it was found there for this answer, ISO 8601. */
  cache_hit_at?: string;
  /** With `word_timestamps`. */
  words?: Word[];
  /** Where they were asked for. */
  num_speakers?: number;
  /** Their labels. */
  speakers?: string[];
  /** What is wrong with the audio. */
  warning?: string;
  /** Beside a warning: whether all of the audio could be decoded. */
  complete?: boolean;
  /** Segments whose doubted text was kept back. */
  withheld_segments?: number;
}

/** A stretch of a recording's text. */
export interface Segment {
  id: number;
  /** Seconds from the beginning. */
  start: number;
  /** Seconds from the beginning. */
  end: number;
  text: string;
  /** The same as `avg_logprob`. */
  confidence: number | null;
  /** Mean log-probability of its tokens. */
  avg_logprob: number | null;
  /** `SPEAKER_01` and so on, null: not known yet. Only where speakers are told apart. */
  speaker?: string | null;
  /** Why a guard does not believe the text. */
  doubted?: string;
}

/** Milliseconds that one recording took in the server. */
export interface ProcessingTime {
  /** Decoding of the file. */
  preprocess_ms: number;
  /** Recognition. */
  transcribe_ms: number;
  /** Both, and what lay between. */
  total_ms: number;
}

/** Why an HTTP request was refused or failed. */
export interface Detail {
  detail: string;
}

export type WireEvent = SessionStarted | Ticket | VadEvent | AudioWarning | SpeechProbability | ModelStatus | LoadStatus | PartialTranscript | FinalTranscript | SpeakerRevision | Error | SessionEnded;
