"""Writes tests/golden/dialects.json: which tensors of torchvision's and Hugging Face's files are which of timm's.

Every table is proven before it is written: the foreign model, loaded with timm's formula weights under its own names,
computes timm's logits. See README.md for the format.
"""

import re
import tempfile
from pathlib import Path

import safetensors.torch
import timm
import torch
import torchvision
import transformers

import formula
from golden_file import write_json

CLASSES = 10

TORCHVISION_VIT = [
    (r"cls_token", "class_token"),
    (r"pos_embed", "encoder.pos_embedding"),
    (r"patch_embed\.proj\.(.*)", r"conv_proj.\1"),
    (r"norm\.(.*)", r"encoder.ln.\1"),
    (r"head\.(.*)", r"heads.head.\1"),
    (r"blocks\.(\d+)\.norm(\d)\.(.*)", r"encoder.layers.encoder_layer_\1.ln_\2.\3"),
    (r"blocks\.(\d+)\.attn\.qkv\.(.*)", r"encoder.layers.encoder_layer_\1.self_attention.in_proj_\2"),
    (r"blocks\.(\d+)\.attn\.proj\.(.*)", r"encoder.layers.encoder_layer_\1.self_attention.out_proj.\2"),
    (r"blocks\.(\d+)\.mlp\.fc1\.(.*)", r"encoder.layers.encoder_layer_\1.mlp.0.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(.*)", r"encoder.layers.encoder_layer_\1.mlp.3.\2"),
]


def huggingface_vit(prefix: str, head: str) -> list[tuple]:
    layer = rf"{prefix}.encoder.layer.\1"
    return [
        (r"cls_token", f"{prefix}.embeddings.cls_token"),
        (r"dist_token", f"{prefix}.embeddings.distillation_token"),
        (r"pos_embed", f"{prefix}.embeddings.position_embeddings"),
        (r"patch_embed\.proj\.(.*)", rf"{prefix}.embeddings.patch_embeddings.projection.\1"),
        (r"norm\.(.*)", rf"{prefix}.layernorm.\1"),
        (r"head\.(.*)", rf"{head}.\1"),
        (r"head_dist\.(.*)", r"distillation_classifier.\1"),
        (r"blocks\.(\d+)\.norm1\.(.*)", rf"{layer}.layernorm_before.\2"),
        (r"blocks\.(\d+)\.norm2\.(.*)", rf"{layer}.layernorm_after.\2"),
        (r"blocks\.(\d+)\.attn\.qkv\.(.*)", [rf"{layer}.attention.attention.{part}.\2" for part in ("query", "key", "value")]),
        (r"blocks\.(\d+)\.attn\.proj\.(.*)", rf"{layer}.attention.output.dense.\2"),
        (r"blocks\.(\d+)\.mlp\.fc1\.(.*)", rf"{layer}.intermediate.dense.\2"),
        (r"blocks\.(\d+)\.mlp\.fc2\.(.*)", rf"{layer}.output.dense.\2"),
    ]


def huggingface_resnet() -> list[tuple]:
    def stage(match):
        return f"resnet.encoder.stages.{int(match[1]) - 1}.layers.{match[2]}"

    def layer(kind):
        return lambda match: f"{stage(match)}.layer.{int(match[3]) - 1}.{kind}.{match[4]}"

    def shortcut(match):
        return f"{stage(match)}.shortcut.{('convolution', 'normalization')[int(match[3])]}.{match[4]}"

    return [
        (r"conv1\.(.*)", r"resnet.embedder.embedder.convolution.\1"),
        (r"bn1\.(.*)", r"resnet.embedder.embedder.normalization.\1"),
        (r"fc\.(.*)", r"classifier.1.\1"),
        (r"layer(\d)\.(\d+)\.conv(\d)\.(.*)", layer("convolution")),
        (r"layer(\d)\.(\d+)\.bn(\d)\.(.*)", layer("normalization")),
        (r"layer(\d)\.(\d+)\.downsample\.(\d)\.(.*)", shortcut),
    ]


def foreign_name(timm_name: str, rules: list[tuple]) -> str | list[str]:
    """The name, or the list of names whose tensors make up the timm tensor when joined along the first dimension."""
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, timm_name)
        if match:
            if callable(replacement):
                return replacement(match)
            return [match.expand(r) for r in replacement] if isinstance(replacement, list) else match.expand(replacement)
    return timm_name


def translate(state: dict, table: dict) -> dict:
    """timm's tensors under their foreign names."""
    result = {}
    for timm_name, foreign in table.items():
        if isinstance(foreign, list):
            result.update((name, part.clone()) for name, part in zip(foreign, state[timm_name].chunk(len(foreign))))
        else:
            result[foreign] = state[timm_name]
    return result


def build_torchvision(builder, state: dict) -> torch.nn.Module:
    model = builder(num_classes=CLASSES)
    model.load_state_dict(state)
    return model


def build_huggingface(model_class, config, state: dict) -> torch.nn.Module:
    """Through a file, because Transformers renames between its files and its modules."""
    with tempfile.TemporaryDirectory() as folder:
        model_class(config).save_pretrained(folder)
        path = Path(folder) / "model.safetensors"
        written = safetensors.torch.load_file(path)
        if set(written) != set(state):
            raise ValueError(f"{model_class.__name__}: names differ from the file's: {sorted(set(written) ^ set(state))[:6]}")
        safetensors.torch.save_file(state, path, metadata={"format": "pt"})
        return model_class.from_pretrained(folder, dtype=torch.float32)


def vit_config(config_class):
    return config_class(hidden_size=192, num_attention_heads=3, num_hidden_layers=12, intermediate_size=768, num_labels=CLASSES,
                        layer_norm_eps=1e-6)


def resnet_config(layer_type: str, depths: list[int], widths: list[int]):
    return transformers.ResNetConfig(embedding_size=64, hidden_sizes=widths, depths=depths, layer_type=layer_type, num_labels=CLASSES)


BASIC = resnet_config("basic", [2, 2, 2, 2], [64, 128, 256, 512])
BOTTLENECK = resnet_config("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048])
VIT, DEIT = vit_config(transformers.ViTConfig), vit_config(transformers.DeiTConfig)

# title: (timm's name, size of the proving image, table, how the foreign model is built from its own names)
CASES = {
    "torchvision/resnet18": ("resnet18", 64, [], lambda s: build_torchvision(torchvision.models.resnet18, s)),
    "torchvision/resnet50": ("resnet50", 64, [], lambda s: build_torchvision(torchvision.models.resnet50, s)),
    "torchvision/vit_b_16": ("vit_base_patch16_224", 224, TORCHVISION_VIT, lambda s: build_torchvision(torchvision.models.vit_b_16, s)),
    "huggingface/resnet-18": ("resnet18", 64, huggingface_resnet(),
                              lambda s: build_huggingface(transformers.ResNetForImageClassification, BASIC, s)),
    "huggingface/resnet-50": ("resnet50", 64, huggingface_resnet(),
                              lambda s: build_huggingface(transformers.ResNetForImageClassification, BOTTLENECK, s)),
    "huggingface/vit-tiny": ("vit_tiny_patch16_224", 224, huggingface_vit("vit", "classifier"),
                             lambda s: build_huggingface(transformers.ViTForImageClassification, VIT, s)),
    "huggingface/deit-tiny-distilled": ("deit_tiny_distilled_patch16_224", 224, huggingface_vit("deit", "cls_classifier"),
                                        lambda s: build_huggingface(transformers.DeiTForImageClassificationWithTeacher, DEIT, s)),
}


def prove(title: str, timm_model: torch.nn.Module, foreign: torch.nn.Module, size: int) -> None:
    images = formula.images(2, size).double()
    with torch.no_grad():
        want = timm_model.double().eval()(images)
        got = foreign.double().eval()(images)
    got = getattr(got, "logits", got)
    error = ((got - want).abs().max() / want.abs().max()).item()
    print(f"{title}: logits differ by {error:.1e}", flush=True)
    if error > 1e-10:
        raise SystemExit(f"{title} does not compute what timm computes")


def main():
    transformers.logging.disable_progress_bar()
    content = {}
    for title, (name, size, rules, build) in CASES.items():
        model = timm.create_model(name, num_classes=CLASSES)
        formula.fill(model)
        state = model.state_dict()
        table = {timm_name: foreign_name(timm_name, rules) for timm_name in state}
        prove(title, model, build(translate(state, table)), size)
        content[title] = {"timm": name, "renamed": {ours: theirs for ours, theirs in table.items() if ours != theirs}}
    path = write_json("dialects.json", content)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
