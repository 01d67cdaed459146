import pytest
import torch

from medlib import peers
from medlib.cost import parameters
from medlib.data import Dataset, Split


@pytest.mark.filterwarnings("ignore")  # MONAI's own affair
def test_monai_pipeline_trains_and_says_when_it_reached_the_goal():
    generator = torch.Generator().manual_seed(0)
    part = Split(
        torch.randn(16, 1, 32, 32, generator=generator),
        torch.zeros(16, 32, 32, dtype=torch.long),
    )
    part.y[:, 8:24, 8:24] = 1
    data = Dataset("squares", ("background", "square"), part, part, part, "made")
    reached, model = peers.monai_unet(data, goal=0.0, until=0.01, limit=5.0)
    assert 0 < reached <= 5 and parameters(model) == 495_922
    never, _ = peers.monai_unet(data, goal=2.0, until=0.01, limit=0.02)
    assert never == float("inf")
