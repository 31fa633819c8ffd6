"""The two models: who speaks when in ten seconds, and what a voice sounds like."""
