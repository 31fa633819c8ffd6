"""Checks of the manifests that need no cluster: schemas, the operator's rules, Serve's, and our own."""
