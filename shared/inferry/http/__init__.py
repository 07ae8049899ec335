"""The routes and what stands before them: keys, limits, bodies, documentation."""
