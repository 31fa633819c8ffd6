"""Bringing up Ray and Serve on one machine, and taking them down again without a trace."""
