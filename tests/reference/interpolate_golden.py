"""Writes tests/golden/interpolate.json: torch.nn.functional.interpolate on small images. See README.md."""

import torch
import torch.nn.functional as F

import formula
from golden_file import write_json

CHANNELS = 2

# name: (rows, columns, mode, antialias, size or None, scale factor or None)
CASES = {
    "bilinear_up": (4, 5, "bilinear", False, (7, 9), None),
    "bilinear_down": (9, 8, "bilinear", False, (4, 3), None),
    "bilinear_down_antialias": (9, 8, "bilinear", True, (4, 3), None),
    "bilinear_up_antialias": (4, 5, "bilinear", True, (7, 9), None),
    "bicubic_up": (4, 5, "bicubic", False, (7, 9), None),
    "bicubic_down": (9, 8, "bicubic", False, (4, 3), None),
    "bicubic_up_antialias": (4, 5, "bicubic", True, (7, 9), None),
    "bicubic_down_antialias": (14, 13, "bicubic", True, (5, 7), None),
    "bicubic_one_pixel": (1, 1, "bicubic", True, (3, 2), None),
    "bicubic_scale_factor": (6, 6, "bicubic", False, None, (4.1 / 6, 8.1 / 6)),
}


def interpolate(rows, columns, mode, antialias, size, scale) -> dict:
    x = formula.values("interpolate", (1, rows, columns, CHANNELS), 0.0, 1.0)
    y = F.interpolate(
        x.permute(0, 3, 1, 2).double(), size=size, scale_factor=scale, mode=mode, antialias=antialias, align_corners=False
    ).permute(0, 2, 3, 1)
    return {
        "in": [rows, columns],
        "out": list(y.shape[1:3]),
        "bicubic": mode == "bicubic",
        "antialias": antialias,
        "step": [1 / s for s in scale] if scale else [0, 0],
        "x": x.flatten().tolist(),
        "y": y.flatten().tolist(),
    }


def main():
    content = {"torch": torch.__version__, "channels": CHANNELS, "cases": {name: interpolate(*case) for name, case in CASES.items()}}
    path = write_json("interpolate.json", content)
    print(f"{path}: {len(CASES)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
