"""How fast the package is, as ratios: against what it stands beside, and against what it could be at best."""
