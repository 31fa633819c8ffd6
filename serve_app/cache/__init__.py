"""Results of recordings that were transcribed before, so that the same upload is answered at once."""
