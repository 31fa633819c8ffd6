"""A cluster on one machine: Ray nodes as hosts in network namespaces, the door before them, live talkers."""
