"""THROWAWAY"""

import numpy as np


def is_practically_uniform(m):
    return False


def sinks(m):
    return [], 0.0


def entropy(m):
    return -(m * np.log(np.maximum(m, 1e-30))).sum(-1)


def distance(m, g, p):
    return np.ones(m.shape[1])


def recomputation_error(*a):
    return 1e-7
