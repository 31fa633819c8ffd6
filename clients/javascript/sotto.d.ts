/** Client of a Sotto speech-to-text server, for browsers and Node. Times count from the first sample sent. */

import type { AudioWarning, LoadStatus, SessionEnded, Timing as WireTiming, Transcript, VadEvent as WireVad, Word } from "./wire.js";

export type { Segment, Word } from "./wire.js";

/** The choices of one session under their wire names; what is left out comes from the server's settings. */
export interface SessionConfig {
  /** A language code, or "auto". */
  lang_code?: string;
  language_mode?: "lock" | "utterance";
  language_lock_s?: number;
  task?: "transcribe" | "translate";
  prompt?: string;
  hotwords?: string;
  carry_context?: boolean;
  vad_enabled?: boolean;
  vad_threshold?: number;
  min_speech_ms?: number;
  min_silence_ms?: number;
  pre_roll_ms?: number;
  speech_pad_ms?: number;
  overlap_ms?: number;
  max_utterance_ms?: number;
  partial_results?: boolean;
  partial_interval_ms?: number;
  max_partial_window_ms?: number;
  word_timestamps?: boolean;
  speech_probability?: boolean;
  streaming_policy?: "dual" | "local_agreement" | "align_att";
  /** Tell speakers apart. */
  diarization?: boolean;
  num_speakers?: number;
  min_speakers?: number;
  max_speakers?: number;
  /** Audio is always 16 kHz mono PCM16 here. */
  sample_rate?: never;
  encoding?: never;
  channels?: never;
  [choice: string]: unknown;
}

/** What this module needs of a WebSocket; the browser's, Node's (22 and later) and that of `ws` have it. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: any): void;
  close(code?: number, reason?: string): void;
}

export interface LiveSessionOptions {
  /** The server's address, or what makes one for every connection. */
  url: string | (() => string | Promise<string>);
  /** WebSocket subprotocols, or what makes them for every connection: `["token", KEY]` is how browsers send a key. */
  protocols?: string | string[] | (() => string | string[] | Promise<string | string[]>);
  config?: SessionConfig;
  /** Default: the server makes one. */
  sessionId?: string;
  /** Default: the global one, which Node 20 has not. */
  WebSocket?: new (url: string, protocols?: any) => WebSocketLike;
  /** The n-th attempt waits up to `initialMs` * 2^(n-1), at most `maxMs`. Default: 250, 8,000, 12 attempts. */
  retry?: { initialMs?: number; maxMs?: number; maxAttempts?: number };
  /** How long a connection may take until the session has begun. Default: 15,000. */
  openTimeoutMs?: number;
  /** After how long a connection that takes no data is given up. Default: 20,000. */
  stallTimeoutMs?: number;
  /** How much may lie in the socket before audio waits outside it. Default: 131,072. */
  maxBufferedBytes?: number;
  /** How much audio is kept for another connection, and may wait for one. Default: 600. */
  maxHeldSeconds?: number;
  /** In [0, 1): what spreads the attempts of many clients. */
  random?: () => number;
}

/** A part that an older server does not say is left out. */
export type Timing = Partial<WireTiming>;

export interface PartialEvent {
  type: "partial";
  segmentId: string;
  /** `stable` + `unstable`. */
  text: string;
  /** Will not change any more in this segment. */
  stable: string;
  unstable: string;
  confidence: number;
  language: string;
  startMs: number;
  endMs: number;
  timing: Timing;
}

export interface FinalEvent {
  type: "final";
  segmentId: string;
  text: string;
  /** Who spoke most of it, "SPEAKER_01"; null where speakers were not asked for or it is not known yet. */
  speaker: string | null;
  confidence: number;
  words: Word[];
  language: string;
  languageProbability: number | null;
  startMs: number;
  endMs: number;
  /** When in the stream the end of the utterance could be known; null where the server does not say. */
  endpointMs: number | null;
  audioDurationMs: number;
  /** Why a guard does not believe the text; null where none doubts it. */
  doubted: string | null;
  /** Why there is no text. An empty text takes back what was shown of the segment. */
  withheld: string | null;
  timing: Timing;
}

/** Who spoke a final that was sent, as it is known now. */
export interface SpeakerEvent {
  type: "speaker";
  segmentId: string;
  speaker: string | null;
  /** A speaker for each of the final's words; null where the server does not remember them. */
  words: (string | null)[] | null;
  startMs: number;
  endMs: number;
}

export interface VadEvent {
  type: "vad";
  state: WireVad["state"];
  tMs: number;
}

/** The sound is bad, where `config` asked to be told. */
export interface WarningEvent {
  type: "warning";
  kind: AudioWarning["kind"];
  tMs: number;
  value: number;
}

/** How sure the server is of speech, where `config` asked to be told. */
export interface SpeechEvent {
  type: "speech";
  /** Up to where it had heard; `probability` is the highest since the event before. */
  tMs: number;
  probability: number;
}

/** How busy the server is and what gives way for it, whenever that changes. */
export interface LoadEvent {
  type: "load";
  level: LoadStatus["level"];
  rung: LoadStatus["rung"];
  interimsPaused: boolean;
}

export interface ErrorEvent {
  type: "error";
  code: string;
  message: string;
  retryable: boolean;
  /** The session is over. */
  fatal: boolean;
}

/** A new connection took over. */
export interface ResumedEvent {
  type: "resumed";
  /** False: a fresh session on the server; finals still come once, language and context begin anew. */
  resumed: boolean;
  /** From where the audio was sent again. */
  fromMs: number;
  /** Audio the server asked for that was no longer held (see `maxHeldSeconds`); 0 as a rule. */
  lostMs: number;
}

export interface EndedEvent {
  type: "ended";
  reason: SessionEnded["reason"];
  totalAudioMs: number;
  totalSegments: number;
}

export type SessionState = "idle" | "connecting" | "live" | "reconnecting" | "ended";

export interface SessionEvents {
  partial: PartialEvent;
  final: FinalEvent;
  speaker: SpeakerEvent;
  vad: VadEvent;
  warning: WarningEvent;
  speech: SpeechEvent;
  load: LoadEvent;
  error: ErrorEvent;
  resumed: ResumedEvent;
  ended: EndedEvent;
  state: { type: "state"; state: SessionState };
  /** A message that this version does not know. */
  message: { type: "message"; message: Record<string, unknown> };
}

/** A live session, which outlives its connections. */
export class LiveSession {
  constructor(options: LiveSessionOptions);
  readonly state: SessionState;
  readonly sessionId: string | null;
  /** Audio that waits to be sent. */
  readonly queuedMs: number;
  /** Resolves when the session ends, rejects with `SessionError` when it fails. */
  readonly ended: Promise<EndedEvent>;
  /** Returns a function that stops the listener. */
  on<Type extends keyof SessionEvents>(type: Type, listener: (event: SessionEvents[Type]) => void): () => void;
  /** Resolves with the session's id. */
  start(): Promise<string>;
  /** 16 kHz mono samples, or their bytes (little-endian). Never waits. */
  sendAudio(audio: Int16Array | Uint8Array | ArrayBuffer): void;
  /** Resolves once no more than `maxQueuedMs` (default 1,000) wait: the pace of who sends a file. */
  drained(maxQueuedMs?: number): Promise<void>;
  /** Ask for a final of the utterance in progress. */
  flush(): void;
  /** No more audio comes. */
  end(): Promise<EndedEvent>;
  /** Drop what is not decoded and end. */
  cancel(): Promise<EndedEvent>;
}

/** `code`: the protocol's error code, CONNECTION_LOST, BUFFER_FULL, INVALID_ADDRESS or CANCELLED. */
export class SessionError extends Error {
  readonly code: string;
  readonly detail: string;
  readonly retryable: boolean;
}

/** The address of a server's live door. */
export function liveUrl(base: string): string;

export interface MicrophoneOptions {
  /** Sound of the caller's own, in place of the microphone; it stays open after `stop()`. */
  stream?: MediaStream;
  deviceId?: string;
  /** The browser's processing; all three are on unless switched off. */
  echoCancellation?: boolean;
  noiseSuppression?: boolean;
  autoGainControl?: boolean;
  /** 10 to 1,000; default 80. */
  chunkMs?: number;
  /** Where `pcm-worklet.js` is served; default: beside this module. */
  workletUrl?: string | URL;
  /** How long the browser may hold the sound back before `start()` fails; default 3,000. */
  resumeTimeoutMs?: number;
  AudioContext?: any;
  AudioWorkletNode?: any;
  mediaDevices?: any;
}

/** The microphone as chunks of 16 kHz mono PCM16. One start and one stop each. */
export class Microphone {
  constructor(options?: MicrophoneOptions);
  /** In a click or a key press: browsers hold the sound of other pages back, and then this fails with a TypeError. */
  start(onChunk: (samples: Int16Array) => void): Promise<void>;
  stop(): Promise<void>;
  /** Resolves when the sound has ended, by `stop()` or by itself. */
  readonly ended: Promise<void>;
}

export interface UtteranceRecorderOptions extends MicrophoneOptions {
  /** Default 60. */
  maxSeconds?: number;
  /** End by itself after that much silence behind speech; default: never. */
  stopAfterSilenceMs?: number;
  microphone?: Microphone;
}

/** Records one utterance as a WAV file. */
export class UtteranceRecorder {
  constructor(options?: UtteranceRecorderOptions);
  start(): Promise<void>;
  stop(): Promise<Blob>;
  /** Resolves with the WAV file, however the recording is ended. */
  readonly recording: Promise<Blob>;
  readonly isStopped: boolean;
}

export interface RecordOnceOptions extends UtteranceRecorderOptions, TranscribeOptions {
  /** Default 800, unlike `UtteranceRecorder`'s. */
  stopAfterSilenceMs?: number;
  onState?: (state: RecordOnce["state"]) => void;
}

/** One utterance on its way to its text. */
export interface RecordOnce {
  readonly state: "idle" | "recording" | "transcribing";
  /** End the recording now; its text still comes. */
  stop(): Promise<void>;
  /** Rejects with `TranscriptionError`, why there is no microphone, or why `signal` was aborted. */
  readonly done: Promise<Transcription | string>;
}

/** Record one utterance and post it. In a click or a key press, as `Microphone.start()`. */
export function recordOnce(url: string, options?: RecordOnceOptions): RecordOnce;

export class SilenceDetector {
  constructor(silenceMs: number, options?: { minLevel?: number; ratio?: number });
  /** True once `silenceMs` of silence came behind speech. */
  push(samples: Int16Array): boolean;
}

/** 16 kHz mono chunks to the bytes of a WAV file. */
export function encodeWav(chunks: Int16Array[]): ArrayBuffer;

export interface TranscribeOptions {
  language?: string;
  task?: "transcribe" | "translate";
  prompt?: string;
  hotwords?: string;
  wordTimestamps?: boolean;
  vadFilter?: boolean;
  responseFormat?: "json" | "text" | "srt" | "vtt";
  filename?: string;
  /** Default "/transcribe"; the path of a proxy route of your own. */
  path?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  fetch?: typeof fetch;
}

export type Transcription = Transcript & { [field: string]: unknown };

/** `POST /transcribe`. Rejects with `TranscriptionError`. */
export function transcribe(
  url: string,
  recording: Blob,
  options: TranscribeOptions & { responseFormat: "text" | "srt" | "vtt" },
): Promise<string>;
export function transcribe(url: string, recording: Blob, options?: TranscribeOptions): Promise<Transcription>;

export class TranscriptionError extends Error {
  readonly status: number;
  readonly detail: string;
  /** Seconds, where the server said when to come back. */
  readonly retryAfterS: number | null;
}
