"""Shows that what vtl-finetune saved loads in timm and PEFT and means the same there.

    python roundtrip.py RUN/best --program build/tools/vtl-finetune [--images FILE ...]
    python roundtrip.py RUN/best --adapter RUN/adapter --base WEIGHTS [--program ...]

Three checks, each printed as one line; the exit code is 1 when any fails:
  tensors  timm builds the model from the directory; every tensor of model.safetensors is in it bit for bit, none is left over
  logits   (--program) timm's logits equal those of `predict --logits`: on generated PNG files that need no resizing within
           2e-5 of the largest, on the given images within 0.5 %, which allows for other decoders and resizers
  merge    (--adapter, --base) PEFT loads the adapter onto timm's model with the weights that training began from, consumes every
           tensor, and its merged weights equal the directory's within one part in a million of the tensor's largest value;
           prints the largest difference (0 when they are the same bits)
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import peft
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

import formula

LOGIT_TOLERANCE = 2e-5
PHOTOGRAPH_TOLERANCE = 5e-3
MERGE_TOLERANCE = 1e-6


def report(check: str, passed: bool, text: str) -> bool:
    print(f"{check}: {'ok' if passed else 'FAILED'}: {text}", flush=True)
    return passed


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.contiguous().view(-1).view(torch.uint8).equal(b.contiguous().view(-1).view(torch.uint8))


def check_tensors(model: torch.nn.Module, file: dict) -> bool:
    state = model.state_dict()
    missing, extra = sorted(set(state) - set(file)), sorted(set(file) - set(state))
    different = [name for name in set(state) & set(file) if not same_bits(state[name], file[name])]
    return report("tensors", not (missing or extra or different),
                  f"{len(file)} in the file, {len(missing)} missing {missing[:3]}, {len(extra)} unknown {extra[:3]}, {len(different)} different {different[:3]}")


def generated_images(folder: Path, config: dict, count: int = 4) -> list[Path]:
    """PNG files of the size that the model's transform resizes to, so that no resizing takes place."""
    side = int(config["input_size"][-1] / config["crop_pct"])
    pixels = formula.images(count, side, "roundtrip").clamp(-2.5, 2.5).mul(51).add(127.5).to(torch.uint8)
    paths = [folder / f"generated_{index}.png" for index in range(count)]
    for path, image in zip(paths, pixels):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return paths


def timm_logits(model: torch.nn.Module, config: dict, paths: list[Path]) -> torch.Tensor:
    transform = timm.data.create_transform(**config, is_training=False)
    batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        return model.eval()(batch)


def predicted_logits(program: str, directory: Path, paths: list[Path]) -> torch.Tensor:
    command = [program, "predict", str(directory), *map(str, paths), "--logits", "--json", "--precision", "fp32", "--device", "cpu"]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    by_path = {Path(entry["path"]).resolve(): entry["logits"] for entry in answer["predictions"]}
    return torch.tensor([by_path[path.resolve()] for path in paths])


def check_logits(model: torch.nn.Module, directory: Path, program: str, images: list[Path]) -> bool:
    config = timm.data.resolve_model_data_config(model)

    def compare(title: str, paths: list[Path], tolerance: float) -> bool:
        want, got = timm_logits(model, config, paths), predicted_logits(program, directory, paths)
        error = ((got - want).abs().max() / want.abs().max()).item()
        return report("logits", error <= tolerance, f"{title}: {len(paths)} images, largest difference {error:.1e} of the largest logit")

    with tempfile.TemporaryDirectory() as folder:
        passed = compare("generated", generated_images(Path(folder), config), LOGIT_TOLERANCE)
    return (not images or compare("given", images, PHOTOGRAPH_TOLERANCE)) and passed


def base_model(directory: Path, weights: Path, classes: int) -> torch.nn.Module:
    """timm's model of the directory's architecture, with the weights that training began from and a head for `classes`."""
    config = json.loads((directory / "config.json").read_text())
    weights = weights / "model.safetensors" if weights.is_dir() else weights
    classifier = config["pretrained_cfg"]["classifier"]
    heads = load_file(weights)
    base_classes = heads[f"{classifier if isinstance(classifier, str) else classifier[0]}.weight"].shape[0]
    overlay = {"file": str(weights), "num_classes": base_classes}
    return timm.create_model(config["architecture"], pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay,
                             **config.get("model_args", {}))


def check_merge(directory: Path, adapter: Path, weights: Path, file: dict, classes: int) -> bool:
    model = peft.PeftModel.from_pretrained(base_model(directory, weights, classes), adapter)
    written, loaded = load_file(adapter / "adapter_model.safetensors"), peft.get_peft_model_state_dict(model)
    if set(written) != set(loaded) or not all(same_bits(written[key], loaded[key]) for key in written):
        return report("merge", False, f"PEFT holds {len(loaded)} tensors, the adapter file {len(written)}: they are not the same")
    merged = model.merge_and_unload().state_dict()
    errors = {name: (merged[name].double() - tensor.double()).abs().max().item() / max(tensor.abs().max().item(), 1e-30)
              for name, tensor in file.items()}
    worst = max(errors, key=errors.get)
    equal = sum(same_bits(merged[name], tensor) for name, tensor in file.items())
    return report("merge", errors[worst] <= MERGE_TOLERANCE,
                  f"{len(written)} adapter tensors; {equal} of {len(file)} merged tensors are the same bits; largest difference {errors[worst]:.1e} in {worst}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model directory: config.json and model.safetensors")
    parser.add_argument("--program", help="vtl-finetune")
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="photographs to predict too")
    parser.add_argument("--adapter", type=Path, help="an adapter directory; needs --base")
    parser.add_argument("--base", type=Path, help="the weights that training began from: a safetensors file or a model directory")
    arguments = parser.parse_args()
    if (arguments.adapter is None) != (arguments.base is None):
        parser.error("--adapter and --base belong together")

    file = load_file(arguments.model / "model.safetensors")
    model = timm.create_model(f"local-dir:{arguments.model}", pretrained=True)
    results = [check_tensors(model, file)]
    if arguments.program:
        results.append(check_logits(model, arguments.model, arguments.program, arguments.images))
    if arguments.adapter:
        results.append(check_merge(arguments.model, arguments.adapter, arguments.base, file, model.num_classes))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
