"""Whether a run of the service leaves words, audio or keys anywhere: planted, used, and searched for."""
