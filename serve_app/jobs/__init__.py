"""Recordings that wait in a durable queue, their results for a while, and the webhooks that tell of them."""
