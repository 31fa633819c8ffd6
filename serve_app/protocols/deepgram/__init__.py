"""Deepgram's wire shapes: `/v1/listen` live (`live`) and for recordings (`recorded`), and its options."""
