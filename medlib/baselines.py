"""What a sensible person tries before a network: four classical classifiers of small
grey images.
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from medlib.data import Dataset
from medlib.extras import extra
from medlib.metrics import auc


class Baseline(NamedTuple):
    scores: np.ndarray  # (N,) of the test images: the higher, the more class 1
    validation: float  # AUC by which the setting was chosen
    setting: str


def pixels(x: Tensor) -> np.ndarray:
    """(N, 1, H, W) → (N, H · W)."""
    return x.flatten(1).cpu().numpy()


def gradients(x: Tensor) -> np.ndarray:
    """Histograms of oriented gradients (Dalal & Triggs 2005): eight directions in cells
    of 7 × 7 pixels.
    """
    with extra("chapters"):
        from skimage.feature import hog

    return np.stack([hog(image, 8, (7, 7), (2, 2)) for image in x[:, 0].cpu().numpy()])


def methods(seed: int) -> dict:
    """{name: (features, settings to choose from)}."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    def linear(*strengths):
        return [LogisticRegression(C=c, max_iter=2000) for c in strengths]

    def forest(leaf):
        return RandomForestClassifier(200, min_samples_leaf=leaf, random_state=seed)

    return {
        "logistic regression": (pixels, linear(0.001, 0.01, 0.1)),
        "SVM": (pixels, [SVC(C=c) for c in (1, 10)]),
        "random forest": (pixels, [forest(leaf) for leaf in (1, 5)]),
        "HOG + logistic regression": (gradients, linear(0.1, 1, 10)),
    }


NAMES = ("logistic regression", "SVM", "random forest", "HOG + logistic regression")


def train(name: str, data: Dataset, *, seed: int = 0) -> Baseline:
    """Train the method `name` on `data.train` with each of its settings; keep the best
    on `data.val`.

    Two classes. Only the random forest uses the seed.
    """
    if len(data.classes) != 2:
        raise ValueError(f"{data.name} has {len(data.classes)} classes; expected 2")
    describe, settings = methods(seed)[name]
    features = {
        part: describe(getattr(data, part).x) for part in ("train", "val", "test")
    }
    found = []
    for model in settings:
        model.fit(features["train"], data.train.y.cpu().numpy())
        rank = model.decision_function if hasattr(model, "decision_function") else None
        rank = rank or (lambda x, model=model: model.predict_proba(x)[:, 1] - 0.5)
        found.append(
            Baseline(
                rank(features["test"]),
                auc(rank(features["val"]), data.val.y.cpu()),
                str(model),
            )
        )
    return max(found, key=lambda baseline: baseline.validation)
