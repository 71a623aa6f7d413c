"""Many images in order: latents, an LSTM on them, its forecasts.

- model: SequenceModel, an LSTM on latents; embed_sequence
- data: sequences from folders, stacks, animations, videos
- clip: as many frames of a file as a person looks through
- embeddings: files of latents
- thrift: the footer of a Parquet file, before the library may look at it
- embedding_job: embeddings in bulk, resumable
- config: what a training is asked to do
- steps: what the trainings have in common
- training: training the LSTM on the next frame; which training it is
- table: tables beside frames
- drops: recordings of simulated drops as sequences
- labelled: sequences with a number or a class from a table
- target: such predictions, their baselines and figures
- target_influence: which frames, patches and heads they hang on
- target_training: training the LSTM on them
- forecast: forecasts beside baselines
- metric: errors in latents that count like errors in pixels
- checkpoint: checkpoints of sequence models
"""

from tae.sequence.data import embed_sequence
from tae.sequence.model import SequenceModel

__all__ = ["SequenceModel", "embed_sequence"]
