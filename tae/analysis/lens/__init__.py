"""The layers' lens: the state after each layer, drawn as an image by the rest of the network's own last steps.

A state is what one image is after so many layers, the depth: 0 before the first, L after the last. It is read behind
the part's final norm: of the encoder it is a latent (the mean of the tokens), which the whole decoder draws; of the
decoder it is tokens, which the output projection draws. So at depth L it gives the model's own reconstruction.

- Raw (nostalgebraist 2020, "interpreting GPT: the logit lens"): the state as it is. Before depth L what draws it gets
  something that it was not trained on; `LensImages.distance` says how far from the usual.
- Tuned (Belrose 2023, "Eliciting latent predictions from transformers with the tuned lens"): first through a
  translator, an affine map for each depth that takes the state to the one at depth L by least squares over images of
  the train split. A good tuned image says that a linear map finds the content in the state, not that the network
  reads it there.

`python -m tae.lens` fits the translators and writes them beside the checkpoint, as <name>.lens.safetensors.
"""

from tae.analysis.lens.file import SUFFIX, LensError, lens_path, load_lens, save_lens
from tae.analysis.lens.fit import fit_lens
from tae.analysis.lens.look import Lens, LensImages, look
from tae.analysis.lens.states import depth_names, draw, read_states
