/** Captions of a Jitsi conference: every participant's sound is a session of its own, so that captions carry names. */
import { LiveSession, Microphone } from "../clients/javascript/sotto.js"; // or "sotto-client"

/**
 * Caption all tracks of `conference`, those that come later too; returns what ends them.
 *
 * `events`: `JitsiMeetJS.events.conference`. `onCaption({name, text, isFinal, segmentId})`: a text replaces the one with
 * the same `segmentId`. `onError(error, name)`: captions of one participant ended. `config`, `protocols`: as for
 * `LiveSession`. A muted track sends silence, which costs the server next to nothing.
 */
export function captionConference(conference, events, { url, protocols, config, onCaption, onError = console.error }) {
  const captions = new Map(); // track id -> how to stop its captions

  const nameOf = (track) => conference.getParticipantById(track.getParticipantId())?.getDisplayName() ?? "You";

  async function caption(track) {
    if (track.getType() !== "audio" || captions.has(track.getId())) return;
    const name = nameOf(track);
    const session = new LiveSession({ url, protocols, config });
    const sound = new Microphone({ stream: track.getOriginalStream() }); // the track's own stream, left open
    captions.set(track.getId(), async () => {
      await sound.stop();
      await session.end();
    });
    const told = (segmentId, text, isFinal) =>
      onCaption({ name, text, isFinal, segmentId: `${track.getId()} ${segmentId}` });
    session.on("partial", ({ segmentId, text }) => told(segmentId, text, false));
    session.on("final", ({ segmentId, text }) => told(segmentId, text, true));
    try {
      await session.start();
      await sound.start((samples) => session.sendAudio(samples));
    } catch (error) {
      await uncaption(track);
      onError(error, name);
    }
  }

  async function uncaption(track) {
    const stop = captions.get(track.getId());
    captions.delete(track.getId());
    await stop?.().catch(() => {}); // a session that failed has nothing more to say
  }

  conference.on(events.TRACK_ADDED, caption);
  conference.on(events.TRACK_REMOVED, uncaption);
  for (const track of conference.getLocalTracks()) caption(track);
  for (const participant of conference.getParticipants()) participant.getTracks().forEach(caption);

  return async () => {
    conference.off(events.TRACK_ADDED, caption);
    conference.off(events.TRACK_REMOVED, uncaption);
    const stops = [...captions.values()];
    captions.clear();
    await Promise.allSettled(stops.map((stop) => stop()));
  };
}
