"""Writes tests/golden/models/NAME.json: what timm's models compute from formula weights and formula images.

    python models_golden.py [NAME ...]            all of CASES, or those named
    python models_golden.py --search NAME ...     looks for images on which the ReLUs of these cases are well conditioned

The reference is float64. PyTorch's own float32 and bfloat16 deviations from it are stored beside it, so that
tolerances can be derived from them. See README.md for the format.
"""

import argparse
import contextlib
import copy
import math
import time
from dataclasses import dataclass, field
from statistics import median

import timm
import torch
import torch.nn.functional as F

import formula
from golden_file import write_json

CLASSES = 10
LABELS = [3, 1, 7, 0]
STEPS = 10
SGD = {"momentum": 0.9, "weight_decay": 1e-4}
ADAMW = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.05}
UNDECAYED = ("cls_token", "dist_token", "reg_token", "pos_embed")
NULL_GRADIENT = 1e-9  # a gradient whose float64 norm is below this is zero in exact arithmetic (a bias that BatchNorm subtracts)
# Beyond these a case is badly conditioned and no basis for comparing training.
MAX_FP32_LOSS_ERROR = 2e-5
MAX_FP32_GRADIENT_ERROR = 3e-5
TRIES = 300
FAR = 2.0**100  # from any kink


# Learning rates of SGD and AdamW, as high as conditioning allows: batch normalisation over four images and ReLU's kinks
# multiply rounding, the more so the longer the path without a skip connection; and a wide model at a higher rate learns the
# batch by heart, which leaves a loss so small that its relative error says nothing.
TINY_VIT = (1e-2, 1e-4)
VIT = (2e-4, 2e-6)
RESNET = (1e-3, 1e-5)
EFFICIENTNET = (5e-5, 1e-5)
LONG_CNN = (1e-4, 5e-6)


@dataclass
class Case:
    model: str
    size: int
    rates: tuple[float, float]
    options: dict = field(default_factory=dict)
    images: str = "input"  # the name that the images are made from; where there are kinks, one that --search found

    def create(self) -> torch.nn.Module:
        torch.manual_seed(0)
        size = {"img_size": self.size} if "patch" in self.model else {}
        model = timm.create_model(self.model, pretrained=False, num_classes=CLASSES, **size, **self.options)
        formula.fill(model)
        return model


CASES = {
    "resnet18": Case("resnet18", 64, RESNET, images="input.54"),
    "tf_efficientnet_lite0": Case("tf_efficientnet_lite0", 64, EFFICIENTNET, images="input.158"),
    "vit_tiny_patch16_224": Case("vit_tiny_patch16_224", 224, TINY_VIT),
    "resnet34": Case("resnet34", 64, LONG_CNN, images="input.103"),
    "resnet50": Case("resnet50", 64, LONG_CNN, images="input.66"),
    "resnet50d": Case("resnet50d", 64, LONG_CNN, images="input.22"),
    "tf_efficientnet_lite1": Case("tf_efficientnet_lite1", 64, EFFICIENTNET, images="input.196"),
    "vit_small_patch16_224": Case("vit_small_patch16_224", 96, VIT),
    "vit_base_patch32_224": Case("vit_base_patch32_224", 128, VIT),
    "deit_tiny_patch16_224": Case("deit_tiny_patch16_224", 112, TINY_VIT),
    "deit_tiny_distilled_patch16_224": Case("deit_tiny_distilled_patch16_224", 112, TINY_VIT),
    "deit3_small_patch16_224": Case("deit3_small_patch16_224", 96, VIT),
    "vit_tiny_patch16_224-avg": Case("vit_tiny_patch16_224", 112, TINY_VIT, {"global_pool": "avg"}),
    "vit_xsmall_patch16_clip_224": Case("vit_xsmall_patch16_clip_224", 112, TINY_VIT),
    "vit_medium_patch16_gap_240": Case("vit_medium_patch16_gap_240", 96, VIT),
    "vit_small_patch14_dinov2": Case("vit_small_patch14_dinov2", 98, VIT),
    "vit_small_patch14_reg4_dinov2": Case("vit_small_patch14_reg4_dinov2", 98, VIT),
}


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """Decay for matrices and filters only: not for 1-D parameters, tokens and position embeddings."""
    decayed, undecayed = [], []
    for name, parameter in model.named_parameters():
        (undecayed if parameter.ndim == 1 or name.endswith(UNDECAYED) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]


def losses(model: torch.nn.Module, optimizer_type, settings: dict, images, labels, autocast) -> list[float]:
    """The loss before each of STEPS optimizer steps on the one batch."""
    model = copy.deepcopy(model).train()
    optimizer = optimizer_type(parameter_groups(model, settings["weight_decay"]), **settings)
    result = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        with autocast():
            loss = F.cross_entropy(model(images).to(images.dtype), labels)
        loss.backward()
        optimizer.step()
        result.append(loss.item())
    return result


def step(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, autocast=contextlib.nullcontext) -> dict:
    """One evaluation and one training pass in the precision of `model` and `images`, the loss in float32 at least; `model` keeps its weights."""
    trained = copy.deepcopy(model).train()
    with torch.no_grad(), autocast():
        eval_logits = model.eval()(images)
    with autocast():
        train_logits = trained(images)
        loss = F.cross_entropy(train_logits.to(torch.promote_types(images.dtype, torch.float32)), labels)
    loss.backward()
    return {
        "eval": {"logits": eval_logits.double().tolist()},
        "train": {"logits": train_logits.double().tolist(), "loss": loss.item()},
        "gradients": {name: formula.summary(name, p.grad) for name, p in trained.named_parameters()},
        "batchnorm": {name: formula.summary(name, b) for name, b in trained.named_buffers() if ".running_" in name},
    }


def measure(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rates, autocast=contextlib.nullcontext) -> dict:
    """What a golden file holds."""
    sgd, adamw = ({"lr": rate, **settings} for rate, settings in zip(rates, (SGD, ADAMW)))
    return {
        **step(model, images, labels, autocast),
        "sgd": {**sgd, "losses": losses(model, torch.optim.SGD, sgd, images, labels, autocast)},
        "adamw": {**adamw, "losses": losses(model, torch.optim.AdamW, adamw, images, labels, autocast)},
    }


def deviation(measured: dict, reference: dict) -> dict:
    """How far `measured` is from `reference`, each as README.md defines it."""
    def logits(mode):
        got, want = (torch.tensor(m[mode]["logits"], dtype=torch.float64) for m in (measured, reference))
        return ((got - want).abs().max() / want.abs().max()).item()

    def loss(optimizer):
        return max(abs(a / b - 1) for a, b in zip(measured[optimizer]["losses"], reference[optimizer]["losses"]))

    def summaries(kind):
        pairs = [(measured[kind][name], want) for name, want in reference[kind].items() if want[0] > NULL_GRADIENT]
        norms = [abs(got[0] - want[0]) / want[0] for got, want in pairs]
        probes = [abs(got[1] - want[1]) / want[0] for got, want in pairs]
        return {f"{kind}_norm": {"max": max(norms), "median": median(norms)},
                f"{kind}_probe": {"max": max(probes), "median": median(probes)}} if pairs else {}

    return {
        "eval_logits": logits("eval"), "train_logits": logits("train"),
        "loss": abs(measured["train"]["loss"] / reference["train"]["loss"] - 1),
        **summaries("gradients"), **summaries("batchnorm"),
        **{f"{optimizer}_losses": loss(optimizer) for optimizer in ("sgd", "adamw") if optimizer in measured},
    }


def kinks_of(model: torch.nn.Module, images: torch.Tensor) -> list[tuple[torch.Tensor, tuple[float, ...]]]:
    """In order of execution of a training pass: what each function with kinks is given, and where its kinks lie."""
    found = []

    def gap_of_the_largest(pool, given):
        """Max pooling has its kink where the two largest of a window are equal; zeros come from a ReLU that blocks them all."""
        image = F.pad(given[0], [pool.padding] * 4, value=-1.0)
        largest, next_largest = image.unfold(2, pool.kernel_size, pool.stride).unfold(3, pool.kernel_size, pool.stride).flatten(4).topk(2).values.unbind(-1)
        found.append((torch.where(largest > 0, largest - next_largest, FAR), (0.0,)))

    watchers = {
        torch.nn.ReLU: lambda module, given: found.append((given[0].clone(), (0.0,))),
        torch.nn.ReLU6: lambda module, given: found.append((given[0].clone(), (0.0, 6.0))),
        torch.nn.MaxPool2d: gap_of_the_largest,
    }
    watched = copy.deepcopy(model).train()
    for module in watched.modules():
        if type(module) in watchers:
            module.register_forward_pre_hook(watchers[type(module)])
    with torch.no_grad():
        watched(images)
    return found


def margin(case: Case, model: torch.nn.Module, images: torch.Tensor) -> float:
    """How near to a kink the nearest value comes, in units of the largest float32 rounding in its channel."""
    smallest = math.inf
    for (wide, kinks), (narrow, _) in zip(kinks_of(copy.deepcopy(model).double(), images.double()), kinks_of(model, images)):
        across = [dim for dim in range(wide.ndim) if dim != 1]
        rounding = (wide - narrow).abs().amax(across)
        smallest = min(smallest, *(((wide - kink).abs().amin(across) / rounding).min().item() for kink in kinks))
    return smallest


def search(case: Case) -> str:
    model, best = case.create(), (-1.0, "")
    for attempt in range(TRIES):
        name = f"input.{attempt}"
        best = max(best, (margin(case, model, formula.images(len(LABELS), case.size, name)), name))
    return f"{best[1]}, nothing nearer to a kink than {best[0]:.2f} times the rounding"


def golden(case: Case) -> dict:
    model = case.create()
    images, labels = formula.images(len(LABELS), case.size, case.images), torch.tensor(LABELS)
    reference = measure(copy.deepcopy(model).double(), images.double(), labels, case.rates)
    fp32 = deviation(measure(model, images, labels, case.rates), reference)
    bf16 = deviation(measure(model, images, labels, case.rates, lambda: torch.autocast("cpu", torch.bfloat16)), reference)
    bf16_cast = deviation(step(copy.deepcopy(model).bfloat16(), images.bfloat16(), labels), reference)
    return {
        "model": case.model,
        "options": {"num_classes": CLASSES, "input_size": case.size, **case.options},
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": case.images,
        "input_shape": list(images.shape),
        "labels": LABELS,
        **reference,
        "torch_fp32_error": fp32,
        "torch_bf16_error": bf16,
        "torch_bf16_cast_error": bf16_cast,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--search", action="store_true")
    args = parser.parse_args()
    if args.search:
        for name in args.names:
            print(f"{name}: {search(CASES[name])}", flush=True)
        return
    badly_conditioned = []
    for name in args.names or CASES:
        start = time.monotonic()
        content = golden(CASES[name])
        fp32, bf16 = content["torch_fp32_error"], content["torch_bf16_error"]
        path = write_json(f"models/{name}.json", content)
        print(f"{path.name}: {path.stat().st_size} bytes, {time.monotonic() - start:.0f} s; logits fp32 {fp32['eval_logits']:.1e} "
              f"bf16 {bf16['eval_logits']:.1e}; gradients fp32 {fp32['gradients_probe']['max']:.1e}; losses fp32 {fp32['sgd_losses']:.1e} {fp32['adamw_losses']:.1e} "
              f"bf16 {bf16['sgd_losses']:.1e} {bf16['adamw_losses']:.1e}", flush=True)
        gradients = max(fp32["gradients_norm"]["max"], fp32["gradients_probe"]["max"])
        if max(fp32["sgd_losses"], fp32["adamw_losses"]) > MAX_FP32_LOSS_ERROR or gradients > MAX_FP32_GRADIENT_ERROR:
            badly_conditioned.append(name)
    if badly_conditioned:
        raise SystemExit(f"badly conditioned, float32 and float64 differ by more than {MAX_FP32_LOSS_ERROR} in losses or {MAX_FP32_GRADIENT_ERROR} in gradients: {', '.join(badly_conditioned)}")


if __name__ == "__main__":
    main()
