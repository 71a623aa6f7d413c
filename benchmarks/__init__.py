"""Runnable comparisons; each module's first lines show its command, `benchmarks/results/` what it printed."""
