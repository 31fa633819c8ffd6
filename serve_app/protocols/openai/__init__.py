"""OpenAI's audio API as pure functions: recordings (`request`, `answer`, `models`) and the Realtime socket.

errors           what is refused, in OpenAI's shape
models           the names that a client may ask for
request, answer  `/v1/audio/transcriptions` and `/v1/audio/translations`
realtime         `WS /v1/realtime?intent=transcription` as a dialect; its settings in `realtime_session`,
                 its audio commits in `realtime_items`, how it is opened in `handshake`
client_secrets   short-lived keys for browsers
"""
