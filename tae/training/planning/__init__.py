"""Before a training: what it takes, and what it had best begin with.

- plan: memory, operations, the largest batch, the time of a step
- report: a plan in words
- advice: what to begin with: the shipped models that fit
"""
