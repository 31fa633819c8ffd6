/** Client of a Sotto speech-to-text server: live sessions, the microphone, recorded utterances. */

export { LiveSession } from "./session.js";
export { SessionError } from "./errors.js";
export { liveUrl } from "./address.js";
export { Microphone } from "./microphone.js";
export { SilenceDetector, TranscriptionError, UtteranceRecorder, encodeWav, recordOnce, transcribe } from "./recording.js";
