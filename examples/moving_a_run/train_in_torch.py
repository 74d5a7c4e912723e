"""The first half: 20 steps in PyTorch with its own RMSprop, then a checkpoint; and 20 more, to compare with."""

import json
import sys

import torch
from digits import batch


def make_model():
    """Return two convolutions with batch normalization, and a linear layer.

    Smooth activations: a ReLU whose input is 0 but for rounding has the gradient 0 in one framework and 1 in the other.
    """
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.add_module("conv1", torch.nn.Conv2d(1, 8, 3, padding=1, bias=False))
    model.add_module("norm1", torch.nn.BatchNorm2d(8))
    model.add_module("silu1", torch.nn.SiLU())
    model.add_module("conv2", torch.nn.Conv2d(8, 16, 3, padding=1, bias=False))
    model.add_module("norm2", torch.nn.BatchNorm2d(16))
    model.add_module("silu2", torch.nn.SiLU())
    model.add_module("pool", torch.nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", torch.nn.Flatten())
    model.add_module("dense", torch.nn.Linear(16, 10))
    return model


def train(model, optimizer, steps):
    """Return the loss of each step."""
    losses = []
    for step in steps:
        images, classes = map(torch.from_numpy, batch(step))
        loss = torch.nn.functional.cross_entropy(model(images[:, None]), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    model = make_model()
    optimizer = torch.optim.RMSprop(
        model.named_parameters(), lr=0.003, alpha=0.95, eps=1e-3, momentum=0.9, centered=True, weight_decay=1e-4
    )
    first = train(model, optimizer, range(20))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "checkpoint.pt")
    second = train(model, optimizer, range(20, 40))
    json.dump({"first": first, "second": second}, sys.stdout)
