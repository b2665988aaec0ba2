import pytest
import torch
from torch import nn

from regbook import models


@pytest.mark.parametrize(
    ("model", "shape", "parameters"),
    [
        (models.mlp(784), (1, 28, 28), 266_610),  # LeNet-300-100: 266,200 weights and 410 biases
        (models.lenet5(), (1, 28, 28), 61_706),
        (models.lenet5(in_channels=3), (3, 32, 32), 62_006),
        (models.small_cnn(), (3, 32, 32), None),
        (models.small_resnet(), (3, 32, 32), None),
        (models.small_resnet(layers=(3, 3, 3), norm_layer=nn.BatchNorm2d), (3, 32, 32), None),
    ],
)
def test_models_give_logits_and_every_parameter_a_gradient(model, shape, parameters):
    logits = model(torch.rand(4, *shape))
    assert logits.shape == (4, 10)
    logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    if parameters:
        assert sum(p.numel() for p in model.parameters()) == parameters


def test_resnet20_has_the_papers_size():
    weights = [p for p in models.small_resnet(layers=(3, 3, 3)).parameters() if p.ndim > 1]
    convolutions_and_head = sum(p.numel() for p in weights if p.shape[-1] != 1)
    assert abs(convolutions_and_head - 270_000) < 3_000  # He et al. 2016, Table 6: 0.27 M


def test_mlp_equals_torchvisions():
    from torchvision.ops import MLP

    torch.manual_seed(0)
    ours = models.mlp(6, [5, 4], 3, norm_layer=nn.BatchNorm1d)
    torch.manual_seed(0)
    theirs = MLP(6, [5, 4, 3], norm_layer=nn.BatchNorm1d)
    x = torch.rand(7, 6)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_arguments_reach_the_layers():
    net = models.mlp(4, [3], 2, activation_layer=nn.Tanh, dropout=0.3)
    assert [type(layer) for layer in net] == [nn.Flatten, nn.Linear, nn.Tanh, nn.Dropout, nn.Linear]
    kinds = [type(m) for m in models.small_cnn(norm_layer=nn.InstanceNorm2d, activation_layer=nn.ELU).modules()]
    assert kinds.count(nn.InstanceNorm2d) == kinds.count(nn.ELU) == 3
