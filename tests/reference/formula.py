"""Numbers from names: the weights, inputs and probes that the golden files are made with.

vtl's tests compute the same values in C++ (README.md has the formula in words). Every step is integer arithmetic or
exact in double precision up to one final rounding to float32, so the two sides agree to the last bit.
"""

import math
import re

import numpy as np
import torch

MASK64 = (1 << 64) - 1
GOLDEN_GAMMA = 0x9E3779B97F4A7C15
CHUNK = 1 << 22

COARSE_CELL = 16  # pixels a side of one cell of the coarse half of an input image


def fnv1a64(text: str) -> int:
    digest = 0xCBF29CE484222325
    for byte in text.encode():
        digest = ((digest ^ byte) * 0x100000001B3) & MASK64
    return digest


def uniform(name: str, count: int) -> np.ndarray:
    """The first `count` numbers of the name: float64, uniform in [-1, 1), multiples of 2^-23."""
    out = np.empty(count)
    seed = np.uint64(fnv1a64(name))
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        z = seed + np.arange(start + 1, stop + 1, dtype=np.uint64) * np.uint64(GOLDEN_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        out[start:stop] = (z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0
    return out


def values(name: str, shape, offset: float, scale: float) -> torch.Tensor:
    """float32(offset + scale * u), offset and scale rounded to float32 first; row-major."""
    u = uniform(name, math.prod(shape))
    return torch.from_numpy((float(np.float32(offset)) + float(np.float32(scale)) * u).astype(np.float32)).reshape(shape)


def ends_residual_branch(name: str, names) -> bool:
    """Whether `name` is the weight of the last BatchNorm of a residual branch, told from the names of the model."""
    resnet = re.fullmatch(r"(layer\d+\.\d+)\.bn([23])\.weight", name)
    if resnet:
        return resnet[2] == "3" or f"{resnet[1]}.bn3.weight" not in names
    return re.fullmatch(r"blocks\.\d+\.[1-9]\d*\.bn3\.weight", name) is not None


def weight(name: str, shape, names) -> torch.Tensor:
    """The tensor `name` (timm's name and shape) of a model whose tensors are called `names`."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if kind == "running_mean":
        return values(name, shape, 0.0, 0.1)
    if kind == "running_var":
        return values(name, shape, 1.0, 0.5)
    if kind in ("cls_token", "dist_token", "reg_token", "pos_embed"):
        return values(name, shape, 0.0, 0.5)
    if kind == "gamma":
        return values(name, shape, 1.0, 0.5)
    if kind == "bias":
        return values(name, shape, 0.0, 0.1)
    if kind != "weight":
        raise ValueError(f"no formula for a tensor called {name}")
    if len(shape) > 1:
        damping = 0.25 if re.search(r"\.(attn\.proj|mlp\.fc2)\.weight$", name) else 1.0
        gain = 6.0 if len(shape) == 4 else 3.0
        return values(name, shape, 0.0, damping * math.sqrt(gain / math.prod(shape[1:])))
    if ends_residual_branch(name, names):
        return values(name, shape, 0.1, 0.01)
    return values(name, shape, 1.0, 0.1)


def fill(model: torch.nn.Module) -> None:
    """Gives every parameter and buffer of a float32 model its formula value."""
    names = set(model.state_dict())
    model.load_state_dict({name: weight(name, tuple(t.shape), names) for name, t in model.state_dict().items()})


def images(batch: int, size: int, name: str = "input") -> torch.Tensor:
    """[batch, 3, size, size], zero mean and about unit variance: coarse cells that tell the images apart, and fine noise."""
    cells = -(-size // COARSE_CELL)
    coarse = uniform(f"{name}.coarse", batch * 3 * cells * cells).reshape(batch, 3, cells, cells)
    coarse = coarse.repeat(COARSE_CELL, axis=2).repeat(COARSE_CELL, axis=3)[:, :, :size, :size]
    fine = uniform(f"{name}.fine", batch * 3 * size * size).reshape(batch, 3, size, size)
    return torch.from_numpy((1.5 * coarse + fine).astype(np.float32))


def summary(name: str, tensor: torch.Tensor) -> list[float]:
    """[L2 norm, probe], in float64; the probe sum(t[i] * u[i]) with the numbers of `name`.probe sees signs and order."""
    flat = tensor.detach().double().flatten()
    probe = torch.from_numpy(uniform(f"{name}.probe", flat.numel()))
    return [flat.norm().item(), flat.dot(probe).item()]
