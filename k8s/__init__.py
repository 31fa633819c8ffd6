"""Manifests for Kubernetes with KubeRay, what generates parts of them, and what checks them."""
