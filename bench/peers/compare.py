"""Compares vtl with PyTorch on the same work, alternating in one run, and writes a table.

    python compare.py --vtl build/bench/vtl_step_bench [--python PYTHON] [--only resnet18] [--rounds 3] [--steps 8] [--out bench/results]
                      [--device cuda [--compile]] [--seconds 90]

For each row: one short run of PyTorch in each of its settings (memory layout; for bf16 inference autocast or a cast model) chooses the best; then vtl and PyTorch take turns, A B A B,
--rounds times, each run a process of its own. A figure is the median over the rounds of the runs' median images a second; memory is the
largest resident set of the process, on a GPU the most that the engine's allocator held there. On a GPU PyTorch has one setting, the one that it
documents as fast: channels_last, autocast in training and a cast model in inference; --compile adds torch.compile.
Writes OUT/peers_DATE_MACHINE.json (every single run) and .md (the table with the command). A row that fails is named and left out.
"""

import argparse
import datetime
import itertools
import json
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
LAYOUTS = ("nchw", "channels_last")
BF16_INFERENCE = ("autocast", "cast")


@dataclass(frozen=True)
class Row:
    model: str
    mode: str
    precision: str
    batch: int
    lora: int = 0

    def flags(self) -> list[str]:
        flags = ["--model", self.model, "--mode", self.mode, "--precision", self.precision, "--batch", str(self.batch)]
        return flags + (["--lora", str(self.lora)] if self.lora else [])

    def torch_settings(self, device: str) -> list[tuple[str, ...]]:
        if device == "cuda":
            return [("channels_last", "cast" if self.mode == "infer" and self.precision == "bf16" else "autocast")]
        if (self.mode, self.precision) == ("infer", "bf16"):
            return list(itertools.product(LAYOUTS, BF16_INFERENCE))
        return [(layout,) for layout in LAYOUTS]

    def __str__(self) -> str:
        lora = f" LoRA r={self.lora}" if self.lora else ""
        return f"{self.model}{lora} {self.mode} {self.precision}"


MODELS = [("resnet18", 16), ("tf_efficientnet_lite0", 16), ("vit_tiny_patch16_224", 16), ("resnet50", 8), ("vit_base_patch16_224", 8)]
ROWS = [Row(model, mode, precision, batch) for model, batch in MODELS for mode in ("train", "infer") for precision in ("fp32", "bf16")]
ROWS += [Row("vit_small_patch16_224", "train", precision, 16, lora=8) for precision in ("fp32", "bf16")]
# What decides on a GPU comes first: time there may be short.
CUDA_ROWS = [Row("vit_base_patch16_224", "train", "bf16", 256), Row("resnet50", "train", "bf16", 256),
             Row("vit_base_patch16_224", "train", "bf16", 256, lora=8), Row("tf_efficientnet_lite0", "train", "bf16", 256),
             Row("vit_base_patch16_224", "infer", "bf16", 256), Row("resnet50", "infer", "bf16", 256),
             Row("tf_efficientnet_lite0", "infer", "bf16", 256), Row("resnet50", "train", "fp32", 128),
             Row("vit_base_patch16_224", "train", "fp32", 64)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vtl", required=True, help="vtl's step bench, or a command that behaves like it")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with requirements.txt installed")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="only rows that contain all these words; may repeat")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="compare with torch.compile")
    parser.add_argument("--batch", type=int, help="instead of a row's own")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no row after so many")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    return parser.parse_args()


class Failed(Exception):
    pass


def run(command: list[str]) -> dict:
    """The JSON object that the command prints as its last line."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failed(f"{shlex.join(command)} failed with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(row: Row, args: argparse.Namespace) -> dict:
    common = ["--threads", str(args.threads), "--device", args.device]
    vtl = [*shlex.split(args.vtl), *row.flags(), *common, "--steps", str(args.steps)]
    torch = [args.python, str(HERE / "torch_peer.py"), *row.flags(), *common, *(["--compile"] if args.compile else [])]
    settings = row.torch_settings(args.device)
    commands = {" ".join(setting): [*torch, *itertools.chain(*zip(("--layout", "--bf16"), setting))] for setting in settings}
    trials = {setting: run([*command, "--steps", "3"]) for setting, command in commands.items()} if len(commands) > 1 else {}
    best = max(commands, key=lambda setting: trials[setting]["images_per_second"] if trials else 0)
    runs = {"vtl": [], "torch": []}
    for _ in range(args.rounds):
        runs["vtl"].append(run(vtl))
        runs["torch"].append(run([*commands[best], "--steps", str(args.steps)]))
    return {"row": str(row), "batch": row.batch, "torch_setting": best, "torch_trials": trials, "runs": runs, **figures(runs)}


def figures(runs: dict) -> dict:
    speed = {engine: statistics.median(r["images_per_second"] for r in results) for engine, results in runs.items()}
    spread = {engine: [min(r["images_per_second"] for r in results), max(r["images_per_second"] for r in results)] for engine, results in runs.items()}
    memory = {engine: max(r["peak_memory_mib"] for r in results) for engine, results in runs.items()}
    return {"images_per_second": speed, "spread": spread, "peak_memory_mib": memory,
            "speed_ratio": speed["vtl"] / speed["torch"], "memory_ratio": memory["vtl"] / memory["torch"]}


def cpu_name() -> str:
    match = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return match[1].strip() if match else platform.processor() or platform.machine()


def flags_of_run_sh(words: list[str]) -> list[str]:
    """Without the two that run.sh fills in: they are paths of this machine."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in ("--vtl", "--python"):
            kept.append(word)
        skip = word in ("--vtl", "--python")
    return kept


def environment(args: argparse.Namespace) -> dict:
    versions = "import json, torch, timm, peft; print(json.dumps({m.__name__: m.__version__ for m in (torch, timm, peft)}))"
    machine = "import json, torch; print(json.dumps(torch.cuda.get_device_name()))"
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "machine": run([args.python, "-c", machine]) if args.device == "cuda" else cpu_name(), "threads": args.threads,
            "compiled": args.compile,
            "commit": commit, "rounds": args.rounds, "steps": args.steps, **run([args.python, "-c", versions]),
            "command": shlex.join(["bench/peers/run.sh", *flags_of_run_sh(sys.argv[1:])])}


def markdown(content: dict) -> str:
    facts = content["environment"]
    lines = [
        f"# vtl and PyTorch side by side, {facts['date']}", "",
        f"{facts['machine']}, {facts['threads']} threads; vtl {facts['commit']}; torch {facts['torch']}, timm {facts['timm']}, peft {facts['peft']}.",
        f"Images a second: median of {facts['rounds']} alternating runs of {facts['steps']} steps each, lowest to highest run in brackets;",
        f"PyTorch {'compiled' if facts['compiled'] else 'eager'} in the best of its settings (layout, and for bf16 inference autocast or the whole model cast). "
        "Ratio above 1: vtl is faster. Memory: the most, MiB.", "",
        f"    {facts['command']}", "",
        "| work | batch | vtl | PyTorch | its setting | ratio | vtl MiB | PyTorch MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        if "failed" in row:
            lines.append(f"| {row['row']} | {row['batch']} | failed: {row['failed']} |")
            continue

        def cell(engine):
            low, high = row["spread"][engine]
            return f"{row['images_per_second'][engine]:.2f} ({low:.2f} to {high:.2f})"
        lines.append(f"| {row['row']} | {row['batch']} | {cell('vtl')} | {cell('torch')} | {row['torch_setting']} | **{row['speed_ratio']:.2f}** | "
                     f"{row['peak_memory_mib']['vtl']:.0f} | {row['peak_memory_mib']['torch']:.0f} |")
    return "\n".join(lines) + "\n"


def write(content: dict, folder: Path) -> Path:
    facts = content["environment"]
    machine = re.sub(r"[^A-Za-z0-9]+", "-", facts["machine"]).strip("-").lower()
    path = folder / f"peers_{facts['date'][:10]}_{machine}{'_compiled' if facts['compiled'] else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(content))
    return path.with_suffix(".md")


def main():
    args = arguments()
    begin = time.monotonic()
    rows = [replace(row, batch=args.batch or row.batch) for row in (CUDA_ROWS if args.device == "cuda" else ROWS)]
    selected = [row for row in rows if not args.only or any(all(word in str(row).split() for word in words.split()) for words in args.only)]
    if not selected:
        raise SystemExit(f"no row contains {args.only}; the rows are: " + "; ".join(map(str, rows)))
    content = {"environment": environment(args), "rows": []}
    for row in selected:
        if time.monotonic() - begin > args.seconds:
            print(f"{row}: no time left", file=sys.stderr, flush=True)
            continue
        try:
            result = measure(row, args)
        except Failed as failure:
            content["rows"].append({"row": str(row), "batch": row.batch, "failed": str(failure)})
            print(f"{row}: {failure}", file=sys.stderr, flush=True)
            path = write(content, args.out)
            continue
        content["rows"].append(result)
        print(f"{row}: vtl {result['images_per_second']['vtl']:.2f}, PyTorch {result['images_per_second']['torch']:.2f} images/s "
              f"({result['torch_setting']}), ratio {result['speed_ratio']:.2f}", file=sys.stderr, flush=True)
        path = write(content, args.out)  # after every row, so that a run cut short leaves what it has
    print(path)
    sys.exit(any("failed" in row for row in content["rows"]))


if __name__ == "__main__":
    main()
