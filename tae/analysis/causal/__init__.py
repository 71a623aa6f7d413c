"""Interventions: attention replaced, heads knocked out, patches covered; what that does to the reconstruction.

A model is never changed, not even for a moment (no hooks, no state): one model serves many sessions at once. Whatever
is put in place of weights, heads or pixels leads away from the data that trained the network; it is named beside each
figure.
"""
