"""The scene of a page: a model, an image, and the image as the model sees it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tae.analysis import facts
from tae.data.fit import Fitted
from tae.model.config import ModelConfig
from tae.ui.session.cache import digest_of
from tae.ui.session.images import Chosen
from tae.ui.session.models import Active
from tae.ui.session.results import as_batch, pass_seconds

if TYPE_CHECKING:
    from torch import Tensor

    from tae.model.autoencoder import TransformerAutoencoder


@dataclass(frozen=True)
class Scene:
    """A model and an image."""

    active: Active  # the model
    chosen: Chosen  # the image as it came
    fitted: Fitted  # the image as the model sees it

    @property
    def key(self) -> str:
        """Names model and image in caches."""
        return f"{self.active.loaded.digest}|{digest_of(self.fitted)}"

    @property
    def config(self) -> ModelConfig:
        return self.active.config

    @property
    def model(self) -> "TransformerAutoencoder":
        return self.active.loaded.model

    @property
    def batch(self) -> "Tensor":
        """(1, 1, H, W) in [0, 1]."""
        return as_batch(self.fitted)

    @property
    def width(self) -> int:
        """Width of the image in pixels."""
        return self.fitted.pixels.shape[1]

    @property
    def is_wide(self) -> bool:
        """Whether images go below each other, not beside each other."""
        return facts.is_wide(self.fitted.pixels.shape)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.config.grid_for(self.width)

    @property
    def num_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def stem(self) -> str:
        """How names of exported files begin."""
        return facts.file_stem(self.chosen.title, self.active.warning)

    @property
    def about(self) -> str:
        """Caption of an export; a stranger's text."""
        told = [self.chosen.title, self.active.title, *([self.chosen.image.white] if self.chosen.image.white else [])]
        return facts.marked(" · ".join(told), self.active.warning)

    def seconds(self, passes: float) -> float:
        """About how long so many runs of one image through the whole model take here."""
        return passes * pass_seconds(self.config) * self.num_tokens / self.config.num_tokens
