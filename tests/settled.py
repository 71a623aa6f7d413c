"""Imported last by the server of `tests.forked`: a child's first garbage collection leaves alone what came from it."""

import gc

gc.collect()
gc.freeze()
