"""`model import-weights`."""

from __future__ import annotations

import argparse
from typing import Any

from eus_ray.cli.parsing import Parser, absolute_path, add_command, print_lines, refuse_existing


def add(commands: Any) -> None:
    """Add the commands about networks."""
    model = commands.add_parser("model", help="make pretrained weights usable without a download")
    below = model.add_subparsers(required=True, metavar="ACTION", parser_class=Parser)
    weights = add_command(
        below,
        "import-weights",
        _import_weights,
        "convert an encoder's weights of torchvision, timm or segmentation_models_pytorch for model.weights",
        "eus-ray model import-weights resnet18.pth --encoder resnet18 --out resnet18.safetensors",
    )
    weights.add_argument(
        "file",
        type=absolute_path,
        metavar="FILE",
        help="a state dictionary, safetensors or PyTorch; code is not run",
    )
    weights.add_argument("--encoder", required=True, metavar="NAME", help="the network's name in timm: model.encoder")
    weights.add_argument(
        "--out", type=absolute_path, required=True, metavar="FILE", help="a new file that ends in .safetensors"
    )


def _import_weights(args: argparse.Namespace) -> None:
    refuse_existing(args.out)
    from eus_ray.models.weight_files import import_weights

    print_lines(import_weights(args.file, args.encoder, args.out).describe())
