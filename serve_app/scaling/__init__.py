"""How many replicas, cards and machines the work needs: decided while it runs, and planned ahead."""
