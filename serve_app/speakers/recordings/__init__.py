"""Whole recordings: pyannote's pipelines, Sortformer, and turns put to speakers."""
