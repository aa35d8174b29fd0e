#!/usr/bin/env python3
"""Runs the program's demonstration and writes its table to bench/results.

    bench/real_input/demo.py
"""

import pathlib
import tempfile

import program


def main():
    args = program.parser(__doc__, "demo").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = program.run(args.program, "demo", "--out", pathlib.Path(folder) / "demo")
    text = [f"The whole in {result['seconds']:.0f} s. Pretrained on the source task: "
            + ", ".join(f"{b['model']} {b['accuracy']:.1%} in {b['seconds']:.0f} s" for b in result["backbones"]) + "."]
    print(program.write(args, "The demonstration", text, result["rows"], {
        "model": lambda r: r["model"],
        "strategy": lambda r: r["strategy"],
        "trainable parameters": lambda r: f"{r['trainable_parameters']:,}",
        "seconds": lambda r: f"{r['seconds']:.1f}",
        "accuracy": lambda r: f"{r['accuracy']:.1%}",
    }), end="")


if __name__ == "__main__":
    main()
