"""Models of which the truth is known by construction."""

import pytest
from torch import Tensor

from tae import TransformerAutoencoder
from tests import planted


@pytest.fixture
def one_picture(small_model):
    """`planted.one_picture` and its picture."""

    def build(same_values: bool = False) -> tuple[TransformerAutoencoder, Tensor]:
        model = small_model()
        return model, planted.one_picture(model, same_values)

    return build
