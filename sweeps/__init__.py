"""Which trials: sweep definitions, their designs and recipes, expansion, the planner, the launcher, the studies."""
