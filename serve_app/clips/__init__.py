"""Clips: recordings that a client stores here, to have them transcribed later, as often as it likes."""
