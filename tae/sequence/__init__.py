"""Many images in order: latents, an LSTM on them, its forecasts.

- model: SequenceModel, an LSTM on latents; embed_sequence
- data: sequences from folders, stacks, animations, videos
- clip: as many frames of a file as a person looks through
- embeddings: files of latents
- embedding_job: embeddings in bulk, resumable
- training: training the LSTM
- forecast: forecasts beside baselines
- metric: errors in latents that count like errors in pixels
- checkpoint: checkpoints of sequence models
"""

from tae.sequence.data import embed_sequence
from tae.sequence.model import SequenceModel

__all__ = ["SequenceModel", "embed_sequence"]
