"""Writes tests/golden/peft/NAME.json: what PEFT's LoRA computes on timm models with formula weights. See README.md."""

import json
import tempfile
from pathlib import Path

import peft
import safetensors.torch
import timm
import torch
import torch.nn.functional as F

import formula
from golden_file import write_json
from models_golden import ADAMW, CLASSES, LABELS, STEPS

RANK, ALPHA = 8, 2
ADAMW_RATE = 1e-4

# timm's model: (image size, endings of the modules that get an adapter, head, class and library of the configuration)
CASES = {
    "vit_tiny_patch16_224": (112, ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"), "head", ("VisionTransformer", "timm.models.vision_transformer")),
    "resnet18": (64, (".conv1", ".conv2", "downsample.0"), "fc", ("ResNet", "timm.models.resnet")),
}


def adapter_config(name: str, targets: list[str], head: str, base_class: str, library: str) -> dict:
    """The keys that every PEFT from 0.9 to today reads; one more would break older ones."""
    return {
        "alpha_pattern": {},
        "auto_mapping": {"base_model_class": base_class, "parent_library": library},
        "base_model_name_or_path": f"timm/{name}.{timm.get_pretrained_cfg(name).tag}",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "loftq_config": {},
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "megatron_config": None,
        "megatron_core": "megatron.core",
        "modules_to_save": [head],
        "peft_type": "LORA",
        "r": RANK,
        "rank_pattern": {},
        "revision": None,
        "target_modules": targets,
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }


def base_model(name: str, size: int) -> torch.nn.Module:
    model = timm.create_model(name, num_classes=CLASSES, **({"img_size": size} if "patch" in name else {}))
    formula.fill(model)
    return model


def adapter_tensors(model: torch.nn.Module, targets: list[str], head: str) -> dict:
    """The adapter file's tensors, each by the formula from its own full key."""
    shapes = {}
    for target in targets:
        out_features, *rest = model.get_submodule(target).weight.shape
        shapes[f"{target}.lora_A.weight"] = (RANK, *rest)
        shapes[f"{target}.lora_B.weight"] = (out_features, RANK, *(1 for _ in rest[1:]))
    shapes |= {f"{head}.{name}": tuple(p.shape) for name, p in model.get_submodule(head).named_parameters()}
    keyed = {f"base_model.model.{name}": shape for name, shape in shapes.items()}
    return {key: formula.weight(key, shape, set()) for key, shape in keyed.items()}


def load_with_peft(name: str, size: int, config: dict, tensors: dict) -> torch.nn.Module:
    """Through the two files, so that PEFT itself says whether names, shapes and configuration are right."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "adapter_config.json").write_text(json.dumps(config, indent=2))
        safetensors.torch.save_file(tensors, Path(folder) / "adapter_model.safetensors", metadata={"format": "pt"})
        model = peft.PeftModel.from_pretrained(base_model(name, size), folder, is_trainable=True)
    loaded = peft.get_peft_model_state_dict(model)
    assert set(loaded) == set(tensors) and all(torch.equal(loaded[key], tensors[key]) for key in tensors)
    return model.double()


def file_key(parameter: str) -> str:
    """A PEFT parameter's name as the adapter file has it."""
    return parameter.replace(".default", "").replace(".modules_to_save", "")


def losses(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> list[float]:
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in learning if p.ndim > 1]}, {"params": [p for p in learning if p.ndim == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=ADAMW_RATE, **ADAMW)
    result = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        result.append(loss.item())
    return result


def golden(name: str) -> dict:
    size, suffixes, head, library = CASES[name]
    base = base_model(name, size)
    targets = sorted(module for module, _ in base.named_modules() if module.endswith(suffixes))
    config = adapter_config(name, targets, head, *library)
    tensors = adapter_tensors(base, targets, head)
    images, labels = formula.images(len(LABELS), size).double(), torch.tensor(LABELS)

    model = load_with_peft(name, size, config, tensors).eval()  # BatchNorm frozen, as LoRA trains by default
    logits = model(images)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    gradients = {file_key(key): formula.summary(file_key(key), p.grad) for key, p in model.named_parameters() if p.requires_grad}
    assert set(gradients) == set(tensors)

    merged = load_with_peft(name, size, config, tensors).eval().merge_and_unload()
    merged_state = merged.state_dict()
    merged_logits = merged(images)
    assert (merged_logits - logits).abs().max() < 1e-10
    return {
        "model": name,
        "options": {"num_classes": CLASSES, "input_size": size},
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "peft": peft.__version__},
        "input_shape": list(images.shape),
        "labels": LABELS,
        "adapter_config": config,
        "adapter_tensors": {key: list(tensor.shape) for key, tensor in sorted(tensors.items())},
        "logits": logits.tolist(),
        "base_logits": base.double().eval()(images).tolist(),
        "loss": loss.item(),
        "gradients": gradients,
        "merged_weights": {f"{t}.weight": formula.summary(f"{t}.weight", merged_state[f"{t}.weight"]) for t in targets},
        "adamw": {"lr": ADAMW_RATE, **ADAMW, "losses": losses(model, images, labels)},
    }


def main():
    for name in CASES:
        path = write_json(f"peft/{name}.json", golden(name))
        print(f"{path}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
