"""A cluster on one machine: Ray nodes as hosts in network namespaces, a gateway before them, live talkers."""
