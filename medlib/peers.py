"""Other toolkits' pipelines, trained as their own tutorials train them, to stand beside
ours in the same run.
"""

import copy
import time
import warnings

import torch
from torch import nn

from medlib import losses
from medlib.data import Dataset
from medlib.device import device
from medlib.device import seed as set_seed
from medlib.extras import extra
from medlib.train import predict


def monai_unet(
    data: Dataset, *, goal: float, until: float, limit: float, seed: int = 0
) -> tuple[float, nn.Module]:
    """MONAI's BasicUNet by MONAI's ordinary pipeline (Cardoso et al. 2022):
    CacheDataset, random affine transforms, DataLoader, Dice loss, Adam at 1e-3, fp32.
    495,956 parameters.

    Returns the CPU-seconds of training until `losses.mean_dice` on data.val reached
    `goal` (inf if it did not within `limit` CPU-seconds), and the model as it was after
    `until`. Looking at data.val is not counted.
    """
    # its imports warn of other packages
    with extra("chapters"), warnings.catch_warnings(action="ignore"):
        from monai import transforms as mt
        from monai.data import CacheDataset, DataLoader
        from monai.losses import DiceLoss
        from monai.networks.nets import BasicUNet
    set_seed(seed)
    keys, where = ("image", "label"), device()
    affine = mt.RandAffined(
        keys,
        prob=1,
        mode=("bilinear", "nearest"),
        rotate_range=0.26,
        scale_range=(0.1, 0.1),
        translate_range=6,
        padding_mode="border",
    )
    contrast = mt.RandScaleIntensityd("image", 0.3, prob=1)
    items = [
        {"image": x, "label": y[None]}
        for x, y in zip(data.train.x.cpu(), data.train.y.cpu(), strict=True)
    ]
    cached = CacheDataset(items, mt.Compose([affine, contrast]), progress=False)
    batches = DataLoader(cached, batch_size=16, shuffle=True, drop_last=True)
    model = BasicUNet(2, 1, len(data.classes), features=(16, 16, 32, 64, 128, 16)).to(
        where
    )
    loss = DiceLoss(softmax=True, to_onehot_y=True, include_background=False)
    adam = torch.optim.Adam(model.parameters(), 1e-3)

    spent, reached, then = 0.0, float("inf"), None
    while (reached > limit or then is None) and spent < limit:
        started = time.process_time()
        model.train()
        for batch in batches:
            image, label = (batch[key].as_tensor().to(where) for key in keys)
            value = loss(model(image), label)
            adam.zero_grad()
            value.backward()
            adam.step()
        spent += time.process_time() - started
        score = losses.mean_dice(
            predict(model, data.val.x.to(where)), data.val.y.to(where)
        )
        reached = min(reached, spent if score >= goal else float("inf"))
        if then is None and spent >= until:
            then = copy.deepcopy(model)
    return reached, then or model
