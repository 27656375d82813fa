"""The loss prediction module and its ranking loss (Yoo and Kweon, CVPR 2019; the paper, section 4.5)."""

import torch
from torch import Tensor, nn


class LossPrediction(nn.Module):
    """Predict each image's loss from the four stage outputs of the network.

    Each stage is pooled over the image and passed through a fully connected layer with ReLU; the four
    results are concatenated, and a last fully connected layer makes one number of them.

    Args:
        stage_channels: channels of each stage's output.
        hidden: units of a stage's fully connected layer; 128 in Yoo and Kweon.
    """

    def __init__(self, stage_channels: list[int], hidden: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Linear(channels, hidden) for channels in stage_channels)
        self.head = nn.Linear(hidden * len(stage_channels), 1)

    def forward(self, features: list[Tensor], gate: Tensor | None = None) -> Tensor:
        """Predicted losses, float32 (n,).

        Args:
            features: float (n, channels, height, width) a stage.
            gate: a scalar that the gradient into the features is multiplied by: 1 lets the module shape
                the network, 0 detaches it. The prediction does not depend on it.
        """
        pooled = [feature.mean(dim=(2, 3), dtype=torch.float32) for feature in features]
        if gate is not None:
            # A number and no branch: a compiled step is the same one before and after the detachment.
            pooled = [means.detach() + gate * (means - means.detach()) for means in pooled]
        hidden = [torch.relu(layer(feature)) for layer, feature in zip(self.stages, pooled, strict=True)]
        return self.head(torch.cat(hidden, dim=1)).squeeze(1)


def ranking_loss(predicted: Tensor, true: Tensor, margin: float) -> Tensor:
    """Margin ranking loss over the pairs of a batch (Yoo and Kweon, 2019, equation 2).

    For a pair (i, j) with true losses l and predictions p:
    max(0, −s · (p_i − p_j) + margin), where s = +1 if l_i > l_j, else −1; its mean over the pairs.
    Image k of the first half is paired with image k of the second half; batches are shuffled, so the
    pairs are random. The last image of an odd batch has no partner and is left out.

    Args:
        predicted: float (n,).
        true: float (n,); no gradient flows into it.
        margin: at least 0.

    Returns:
        A scalar; 0 for a batch of one image, which has no pair.
    """
    pairs = len(predicted) // 2
    if pairs == 0:
        return predicted.sum() * 0
    predicted_gap = predicted[:pairs] - predicted[pairs : 2 * pairs]
    true = true.detach()
    sign = torch.where(true[:pairs] > true[pairs : 2 * pairs], 1.0, -1.0)
    return torch.relu(margin - sign * predicted_gap).mean()
