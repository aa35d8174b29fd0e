"""Writes tests/golden/pos_embed.json: timm's resampling of position embeddings to another grid. See README.md."""

import numpy as np
import timm
import torch
from timm.layers import resample_abs_pos_embed

import formula
from golden_file import write_json

DIM = 2

# name: (old grid, new grid, prefix tokens), grids as rows x columns
CASES = {
    "14x14_to_7x7": ((14, 14), (7, 7), 1),
    "14x14_to_10x10_distilled": ((14, 14), (10, 10), 2),
    "14x14_to_24x24": ((14, 14), (24, 24), 1),
    "14x14_to_9x16_no_prefix": ((14, 14), (9, 16), 0),
    "37x37_to_7x7_dinov2": ((37, 37), (7, 7), 1),
    "2x2_to_5x5": ((2, 2), (5, 5), 1),
}


def shortest(tensor: torch.Tensor) -> list:
    """The float32 values as the doubles whose decimals are shortest."""
    return [float(str(value)) for value in tensor.numpy().flatten()]


def resample(old: tuple[int, int], new: tuple[int, int], prefix: int) -> dict:
    embedding = formula.values("pos_embed", (1, prefix + old[0] * old[1], DIM), 0.0, 0.5)
    result = resample_abs_pos_embed(embedding, list(new), list(old), num_prefix_tokens=prefix)
    exact = resample_in_double(embedding, old, new, prefix)
    assert (result.double() - exact).abs().max() < 1e-6
    return {"old_grid": old, "new_grid": new, "prefix_tokens": prefix, "dim": DIM, "values": shortest(result)}


def resample_in_double(embedding: torch.Tensor, old, new, prefix: int) -> torch.Tensor:
    """The definition: Keys' bicubic kernel with a = -0.5, stretched by the reduction, pixel centres at i + 0.5, edges renormalised."""
    def matrix(source: int, target: int) -> np.ndarray:
        scale = source / target
        stretch = max(scale, 1.0)
        x = np.abs((np.arange(source)[None, :] + 0.5 - (np.arange(target)[:, None] + 0.5) * scale) / stretch)
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
        return weights / weights.sum(axis=1, keepdims=True)

    grid = embedding[0, prefix:].double().numpy().reshape(*old, DIM)
    grid = np.einsum("ij,jlm->ilm", matrix(old[0], new[0]), grid)
    grid = np.einsum("kl,ilm->ikm", matrix(old[1], new[1]), grid)
    return torch.cat([embedding[0, :prefix].double(), torch.from_numpy(grid.reshape(-1, DIM))])[None]


def main():
    content = {"timm": timm.__version__, "cases": {name: resample(*case) for name, case in CASES.items()}}
    path = write_json("pos_embed.json", content)
    print(f"{path}: {len(CASES)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
