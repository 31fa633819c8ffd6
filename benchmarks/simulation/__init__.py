"""A service of any size, simulated: its real policies, with decode times instead of models."""
