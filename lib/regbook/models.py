"""The networks that pages train: plain modules of PyTorch, with torchvision's argument names.

Inputs are N × channels × height × width (``mlp`` flattens anything), outputs N × ``num_classes`` logits.
Parameters start as PyTorch's layers start them; a page that studies initialization changes them itself.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

Layer = Callable[..., nn.Module]


def mlp(
    in_channels: int,
    hidden_channels: Sequence[int] = (300, 100),
    num_classes: int = 10,
    norm_layer: Layer | None = None,
    activation_layer: Layer = nn.ReLU,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Flatten, then linear layers with ``activation_layer`` between. The default is LeNet-300-100 (LeCun et al. 1998)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise((in_channels, *hidden_channels)):
        layers += [nn.Linear(before, after), *([norm_layer(after)] if norm_layer else []), activation_layer()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear((in_channels, *hidden_channels)[-1], num_classes))


def lenet5(num_classes: int = 10, in_channels: int = 1, activation_layer: Layer = nn.ReLU, dropout: float = 0.0) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998, Fig. 2) for 28 × 28 or 32 × 32 images, with ReLU and max pooling unless told otherwise."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=2), activation_layer(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), activation_layer(), nn.AdaptiveMaxPool2d(5),
        nn.Flatten(), nn.Linear(400, 120), activation_layer(), nn.Dropout(dropout),
        nn.Linear(120, 84), activation_layer(), nn.Dropout(dropout), nn.Linear(84, num_classes),
    )  # fmt: skip


def small_cnn(
    num_classes: int = 10,
    in_channels: int = 3,
    hidden_channels: Sequence[int] = (16, 32, 32),
    norm_layer: Layer | None = None,
    activation_layer: Layer = nn.ReLU,
    dropout: float = 0.0,
) -> nn.Sequential:
    """3 × 3 convolutions, each halving the picture by max pooling, then a global average and one linear layer."""
    layers: list[nn.Module] = []
    for before, after in pairwise((in_channels, *hidden_channels)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=norm_layer is None)]
        layers += [*([norm_layer(after)] if norm_layer else []), activation_layer(), nn.MaxPool2d(2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(hidden_channels[-1], num_classes)]
    return nn.Sequential(*layers, *head)


class BasicBlock(nn.Module):
    """x + F(x) with two 3 × 3 convolutions (He et al. 2016, Fig. 2); a 1 × 1 convolution where the shape changes."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1, norm_layer: Layer = nn.BatchNorm2d):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False), norm_layer(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False), norm_layer(planes)
        self.relu = nn.ReLU()
        same = stride == 1 and inplanes == planes
        self.downsample = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(inplanes, planes, 1, stride, bias=False), norm_layer(planes)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(self.downsample(x) + branch)


def small_resnet(
    num_classes: int = 10,
    in_channels: int = 3,
    layers: Sequence[int] = (1, 1, 1),
    width: int = 16,
    norm_layer: Layer = nn.BatchNorm2d,
) -> nn.Sequential:
    """The CIFAR residual network (He et al. 2016, §4.2): ``layers[i]`` blocks at width ``width · 2^i``, halving the picture
    between stages. ``layers=(3, 3, 3)`` is ResNet-20."""
    blocks: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1, bias=False), norm_layer(width), nn.ReLU()]
    planes = width
    for stage, count in enumerate(layers):
        for block in range(count):
            out = width * 2**stage
            blocks.append(BasicBlock(planes, out, stride=2 if stage and not block else 1, norm_layer=norm_layer))
            planes = out
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(planes, num_classes))
