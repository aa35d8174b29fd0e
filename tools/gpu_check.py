#!/usr/bin/env python3
"""Checks and measures vtl on a GPU with the programs that tools/gpu_kit.sh built; builds and fetches nothing.

    tools/gpu_check.sh OUT             operations and models, kernels, training beside PyTorch, a fine-tune: ten minutes
    tools/gpu_check.sh OUT --second    compute-sanitizer, a tensor beyond 2^31 elements, time kernel by kernel
    tools/gpu_check.sh OUT --device simt --kit build     the same on the emulated device, small: a test of this script

Every section has its own time; what overruns it, fails or is not there is reported as such, and the rest goes on. Writes
OUT/check.json, OUT/report.md and OUT/log.txt, and compare.py's tables. The exit code is 1 when something that ran was wrong.
"""

import argparse
import csv
import datetime
import glob
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"


class Missing(Exception):
    """Something is not there; that is no failure."""


class Check:
    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.kit = args.kit.resolve()
        self.out = args.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.begin = time.monotonic()
        self.log = open(self.out / "log.txt", "w")
        self.sections = []
        self.environment = {**os.environ, "VTL_TEST_DEVICE": args.device, "PYTHONUNBUFFERED": "1"}

    def program(self, name: str) -> pathlib.Path:
        if self.args.device == "simt" and name != "vtl_tests":  # the tests hold every device
            name += "-simt" if "-" in name else "_simt"
        for folder in ("", "bench", "tests"):
            path = self.kit / folder / name
            if path.is_file():
                return path
        raise Missing(f"{self.kit / name} is not there")

    def run(self, command: list, seconds: float) -> tuple[int | None, str]:
        """The exit code (None: stopped when its time was over) and all that was printed."""
        words = [str(word) for word in command]
        print(f"\n$ {' '.join(words)}", file=self.log, flush=True)
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                   env=self.environment, cwd=ROOT, start_new_session=True)
        code = None
        try:
            text, _ = process.communicate(timeout=seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
        print(text[-200_000:], file=self.log, flush=True)
        return code, text

    def section(self, name: str, work) -> None:
        start = time.monotonic()
        result = {"name": name}
        try:
            result |= work()
        except Missing as missing:
            result |= {"verdict": "not available", "why": str(missing)}
        except Exception as error:  # the next section does not depend on this one
            result |= {"verdict": "failed", "why": f"{type(error).__name__}: {error}"}
        result["seconds"] = round(time.monotonic() - start, 1)
        self.sections.append(result)
        print(f"{name}: {result['verdict']} ({result['seconds']} s) {result.get('why', '')}", flush=True)
        self.write()

    def write(self) -> None:
        content = {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "device": self.args.device,
                   "sections": self.sections}
        (self.out / "check.json").write_text(json.dumps(content, indent=1) + "\n")
        (self.out / "report.md").write_text(report(content))


# ---- what is there ---------------------------------------------------------------------------------------------------

def python_has(*modules: str) -> bool:
    return subprocess.run([sys.executable, "-c", "import " + ", ".join(modules)], capture_output=True).returncode == 0


def library_folders() -> list[str]:
    """Where PyTorch's own copies of cuBLASLt and cuDNN lie."""
    folders = {os.path.dirname(path) for base in sys.path + ["/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu"]
               for name in ("libcublasLt.so*", "libcudnn.so*") for pattern in ("nvidia/*/lib/", "torch/lib/", "")
               for path in glob.glob(os.path.join(base or ".", pattern + name))}
    return sorted(folders)


def machine(check: Check) -> dict:
    folders = library_folders()
    check.environment["LD_LIBRARY_PATH"] = ":".join([*folders, os.environ.get("LD_LIBRARY_PATH", "")])
    facts = {"libraries": folders, "python": sys.version.split()[0]}
    if check.args.device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        code, text = check.run(query, 20)
        if code != 0:
            raise RuntimeError("nvidia-smi does not answer")
        facts["gpu"] = text.strip()
        _, text = check.run([sys.executable, "-c", "import torch, json; print(torch.__version__)"], 60)
        facts["torch"] = text.strip().splitlines()[-1] if text.strip() else ""
    _, text = check.run([check.program("vtl-finetune"), "doctor"], 20)
    facts["doctor"] = text.strip().splitlines()
    return {"verdict": "passed", "facts": facts}


# ---- right? ----------------------------------------------------------------------------------------------------------

def doctest(check: Check, seconds: float, *flags: str) -> dict:
    code, text = check.run([check.program("vtl_tests"), *flags], seconds)
    summary = re.search(r"test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed", text)
    failures = re.findall(r"^(?:TEST CASE: +|.*ERROR: ).*$", text, re.M)[:40]
    if code is None:
        return {"verdict": "overran", "why": f"more than {seconds:.0f} s", "failures": failures}
    if not summary or int(summary[1]) == 0:
        return {"verdict": "failed", "why": f"exit code {code}, no test ran", "failures": failures or text.splitlines()[-20:]}
    return {"verdict": "passed" if code == 0 else "failed", "why": f"{summary[2]} of {summary[1]} test cases passed", "failures": failures}


def operations() -> str:
    rooms = {path.name for path in (ROOT / "kernels").iterdir() if path.is_dir()} | {path.stem for path in (ROOT / "layers").glob("*.h")}
    return ",".join(f"*/{room}*_test*" for room in sorted(rooms - {"simt", "device", "cpu"}))


# ---- how fast? -------------------------------------------------------------------------------------------------------

def kernel_times(check: Check, seconds: float, pattern: str) -> tuple[dict, dict]:
    """{name: microseconds and counters} of vtl_bench, and the ceilings of the same run."""
    partial = check.out / "bench.json"
    code, text = check.run([check.program("vtl_bench"), f"--device={check.args.device}", f"--benchmark_filter={pattern}",
                            "--benchmark_min_time=0.02", f"--benchmark_out={partial}", "--benchmark_out_format=json"], seconds)
    content = json.loads(partial.read_text()) if code == 0 else cut_short(partial)
    partial.unlink(missing_ok=True)
    times = {}
    for row in content.get("benchmarks", []):
        name = row["name"].removesuffix("/manual_time")
        times[name] = {"microseconds": row.get("real_time"), "failed": row.get("error_message"),
                       **{key: row[key] for key in ("bytes/s", "of_copy", "flop/s", "of_matmul") if key in row}}
    ceilings = {key: float(value) for key, value in content.get("context", {}).items() if key.endswith(("gflops", "per_s"))}
    if not times:
        raise RuntimeError(f"vtl_bench wrote nothing (exit code {code}): {text[-500:]}")
    return times, ceilings


def cut_short(path: pathlib.Path) -> dict:
    """A file of Google Benchmark that ends after some row."""
    text = path.read_text() if path.exists() else ""
    end = text.rfind("}")
    for tail in ("]}", "}", ""):
        try:
            return json.loads(text[:end + 1] + tail)
        except json.JSONDecodeError:
            continue
    return {}


def kernels(check: Check) -> dict:
    small = check.args.device == "simt"
    times, ceilings = kernel_times(check, 90, "layernorm_forward|softmax" if small else ".")
    peers = {}
    if check.args.device == "cuda" and python_has("torch"):
        code, text = check.run([sys.executable, PEERS / "torch_kernels.py"], 75)
        peers = json.loads(text.splitlines()[-1]) if code == 0 else {}
    for name, microseconds in peers.items():
        if name in times and times[name]["microseconds"]:
            times[name]["torch_microseconds"] = microseconds
            times[name]["ratio"] = microseconds / times[name]["microseconds"]
    wrong = [name for name, row in times.items() if row["failed"]]
    return {"verdict": "failed" if wrong else "passed", "why": f"{len(times)} kernels" + (f", without {wrong}" if wrong else ""),
            "ceilings": ceilings, "kernels": times}


def peers(check: Check, seconds: float, *flags: str) -> dict:
    if not python_has("torch", "timm", "peft"):
        raise Missing("no torch, timm and peft")
    code, text = check.run([sys.executable, PEERS / "compare.py", "--vtl", check.program("vtl_step_bench"), "--device", "cuda", "--rounds", "1",
                            "--steps", "30", "--seconds", seconds * 0.8, "--out", check.out, *flags], seconds)
    rows = [line for line in text.splitlines() if "images/s" in line or "failed" in line or "no time" in line]
    return {"verdict": "overran" if code is None else "passed" if code == 0 else "failed", "rows": rows}


def steps_alone(check: Check) -> dict:
    """Our own training steps, where PyTorch has nothing to say."""
    rows = []
    for flags in (["--model", "resnet18", "--size", "32"], ["--model", "vit_tiny_patch16_224", "--lora", "4"]):
        code, text = check.run([check.program("vtl_step_bench"), *flags, "--batch", "2", "--steps", "1", "--device", check.args.device], 300)
        if code != 0:
            raise RuntimeError(text[-400:])
        rows.append(text.splitlines()[-1])
    return {"verdict": "passed", "rows": rows}


def finetune(check: Check, seconds: float) -> dict:
    photos, weights = check.kit / "photos", check.kit / "weights"
    if check.args.device == "cuda" and not (photos.is_dir() and weights.is_dir()):
        raise Missing(f"no photographs or weights in {check.kit}")
    program = check.program("vtl-finetune")
    runs = check.out / "runs"
    rows = []
    try:
        if check.args.device == "simt":
            code, text = check.run([program, "demo", "--quick", "--device", "simt"], seconds)
            return {"verdict": "passed" if code == 0 else "failed", "rows": text.splitlines()[-10:]}
        for strategy in ("head", "full", "lora"):
            folder = runs / strategy
            code, text = check.run([program, "train", photos, "--model", "tf_efficientnet_lite0", "--weights", weights, "--strategy", strategy,
                                    "--device", "cuda", "--out", folder], seconds / 3)
            if code != 0:
                return {"verdict": "failed" if code else "overran", "why": f"{strategy}: exit code {code}", "rows": rows + text.splitlines()[-10:]}
            summary = json.loads((folder / "summary.json").read_text())
            rows.append(f"{strategy}: accuracy {summary['metrics']['accuracy']:.4f}, {summary['seconds']:.1f} s")
        return {"verdict": "passed", "rows": rows}
    finally:
        shutil.rmtree(runs, ignore_errors=True)


# ---- the second call -------------------------------------------------------------------------------------------------

def sanitizer(check: Check, tool: str, seconds: float) -> dict:
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if check.args.device != "cuda" or not os.path.exists(program):
        raise Missing("no compute-sanitizer")
    # Awkward shapes only: the real ones would take hours here.
    code, text = check.run([program, "--tool", tool, "--error-exitcode", "77", "--print-limit", "20", check.program("vtl_tests"),
                            f"--source-file={operations()}", "--test-case-exclude=*real shape*,models_*,*matches cuBLASLt*"], seconds)
    found = re.findall(r"^=+ (?:ERROR SUMMARY|RACECHECK SUMMARY|.*(?:Invalid|hazard|Uninitialized|Barrier)).*$", text, re.M)[:30]
    if code is None:
        return {"verdict": "overran" if not found else "failed", "why": f"more than {seconds:.0f} s", "rows": found}
    return {"verdict": "passed" if code == 0 else "failed", "why": found[-1] if found else f"exit code {code}", "rows": found}


def time_by_kernel(check: Check, seconds: float) -> dict:
    program = shutil.which("ncu")
    if check.args.device != "cuda" or not program:
        raise Missing("no ncu")
    code, text = check.run([program, "--clock-control", "none", "--csv", "--metrics", "gpu__time_duration.sum,dram__bytes.sum", "--launch-count", "3000",
                            check.program("vtl_bench"), "--device=cuda", "--benchmark_min_time=0", "--benchmark_filter=vit_b16|resnet"], seconds)
    table = {}
    start = text.find('"ID"')
    for row in csv.DictReader(io.StringIO(text[start:])) if start >= 0 else []:
        try:
            table.setdefault(row["Kernel Name"], {}).setdefault(row["Metric Name"], []).append(float(row["Metric Value"].replace(",", "")))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    if not table:
        raise Missing(f"ncu gave no counters (exit code {code}): {text[-300:]}")
    return {"verdict": "passed", "why": f"{len(table)} kernels",
            "kernels": {name: {metric: sorted(values)[len(values) // 2] for metric, values in row.items()} for name, row in table.items()}}


# ---- the table -------------------------------------------------------------------------------------------------------

def cell(value, pattern: str = "{:.2f}") -> str:
    return pattern.format(value) if isinstance(value, (int, float)) else ""


def report(content: dict) -> str:
    lines = [f"# vtl on {content['device']}, {content['date']}", "", "| section | verdict | seconds | |", "|---|---|---|---|"]
    for section in content["sections"]:
        lines.append(f"| {section['name']} | {section['verdict']} | {section['seconds']} | {section.get('why', '')} |")
    for section in content["sections"]:
        lines += ["", f"## {section['name']}", ""]
        lines += [f"    {key}: {value}" for key, value in section.get("facts", {}).items()]
        lines += [f"    {row}" for row in section.get("rows", []) + section.get("failures", [])]
        if "ceilings" in section:
            lines += [f"Measured ceilings: {section['ceilings']}", "",
                      "| kernel | us | of copy | of matmul | PyTorch us | PyTorch / vtl |", "|---|---|---|---|---|---|"]
            for name, row in section["kernels"].items():
                lines.append(f"| {name} | {cell(row['microseconds'], '{:.1f}')} | {cell(row.get('of_copy'))} | {cell(row.get('of_matmul'))} | "
                             f"{cell(row.get('torch_microseconds'), '{:.1f}')} | {cell(row.get('ratio'))} | {row['failed'] or ''}")
        elif "kernels" in section:
            lines += [f"    {name[:100]}: {row}" for name, row in section["kernels"].items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--kit", type=pathlib.Path, default=ROOT / "build-gpu" / "kit")
    parser.add_argument("--device", choices=("cuda", "simt"), default="cuda")
    parser.add_argument("--second", action="store_true")
    args = parser.parse_args()
    check = Check(args)
    cuda = args.device == "cuda"
    check.section("machine", lambda: machine(check))
    if args.second:
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
            check.section(f"compute-sanitizer {tool}", lambda: sanitizer(check, tool, 100))
        if cuda:
            check.section("beyond 2^31 elements", lambda: doctest(check, 60, "--test-case=huge_*", "--no-skip"))
        check.section("time by kernel", lambda: time_by_kernel(check, 100))
    else:
        some = operations() if cuda else "*/layernorm_test*,*/reduce_test*"
        check.section("operations", lambda: doctest(check, 60 if cuda else 600, f"--source-file={some}"))
        if cuda:
            check.section("models", lambda: doctest(check, 45, "--test-case=models_*"))
        check.section("kernels", lambda: kernels(check))
        if cuda:
            check.section("training beside PyTorch", lambda: peers(check, 120))
            check.section("fine-tune", lambda: finetune(check, 30))
            check.section("training beside compiled PyTorch", lambda: peers(check, 150, "--compile", "--only", "train bf16"))
        else:
            check.section("training", lambda: steps_alone(check))
            check.section("fine-tune", lambda: finetune(check, 600))
    sys.exit(any(section["verdict"] == "failed" for section in check.sections))


if __name__ == "__main__":
    main()
