"""Clients in other languages, and the names under which agents import the Python ones."""
