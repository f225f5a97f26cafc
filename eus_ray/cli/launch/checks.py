"""What is launched, checked before it is: the study as the job will read it, and the options of the launch."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from eus_ray.config import Study
from eus_ray.config_file import flatten_only, load_study, parse_override, read_toml
from eus_ray.errors import UserError

SHARED = ("local", "slurm", "ray")
"""Targets whose nodes see the paths that are seen here."""
_PATHS = ("data.manifest", "model.weights", "search.space")


def check_study(args: argparse.Namespace) -> Study:
    """The study as the job will read it, checked as far as this machine can. Raises `UserError`."""
    from eus_ray.store import without_credentials

    texts = {"STUDY.toml": args.study, "--out": args.out, "--from": args.start_from or ""}
    lines = [
        f"{name} {text!r}: has a line break or another control character"
        for name, text in [*texts.items(), *(("--set", override) for override in args.set)]
        if not text.isprintable()
    ]
    lines += [
        f"{name}: its secret would stand in the recipe; leave it out, and give it to the job's environment "
        "(S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; cluster/README.md says how)"
        for name, text in texts.items()
        if without_credentials(text) != text
    ]
    if lines:
        raise UserError(*lines)
    trials = [] if args.trials is None else [f"search.trials={args.trials}"]
    study = load_study(args.study, preset=args.preset, models=args.models, overrides=[*args.set, *trials])
    if not study.data.manifest:
        lines.append(f"{args.study}: data.manifest is not set: name the manifest, or --set data.manifest=FILE")
    if args.command != "tune":
        of_tune = {"--trials": args.trials, "--from": args.start_from}
        lines += [f"{name} is of tune; add --command tune" for name, value in of_tune.items() if value is not None]
    lines += _seen_from_here(args, study) if args.target in SHARED else _seen_elsewhere(args)
    if lines:
        raise UserError(*lines)
    return study


def _seen_from_here(args: argparse.Namespace, study: Study) -> list[str]:
    """What is wrong with the study where its files can be looked at."""
    from eus_ray.models import check_model
    from eus_ray.search.space_loader import load_space
    from eus_ray.store import PROVENANCE

    lines = []
    if study.data.manifest and not Path(study.data.manifest).is_file():
        lines.append(f"data.manifest: {study.data.manifest}: no such file")
    for arch in study.models:
        settings = study.for_model(arch)
        try:
            check_model(settings.model)
            if args.command == "tune":
                load_space(settings, check_model)
        except UserError as error:
            lines += error.lines
    if "://" not in args.out and not args.resume and (Path(absolute(args.out)) / PROVENANCE).exists():
        lines.append(f"{args.out}: holds a study already; --resume goes on with it, or choose another --out")
    return list(dict.fromkeys(lines))


def _seen_elsewhere(args: argparse.Namespace) -> list[str]:
    """A line for each path that would mean something else, or nothing, on the nodes."""
    named = {**written_paths(args), "--out": args.out, "--from": args.start_from or "/"}
    return [
        f"{name} {path}: the nodes do not see the folders of this machine; write the path that they see, from / on"
        for name, path in named.items()
        if "://" not in path and not PurePosixPath(path).is_absolute()
    ]


def written_paths(args: argparse.Namespace) -> dict[str, str]:
    """The paths that study file and overrides name, as they are written, by field."""
    tree = read_toml(Path(args.study))
    flatten_only(tree)
    overrides = dict(parse_override(text) for text in args.set)
    written: dict[str, Any] = {}
    for name in _PATHS:
        section, field = name.split(".")
        written[name] = overrides.get(name, tree.get(section, {}).get(field))
        for arch, names in tree.get("only", {}).items():
            written[f"[only.{arch}] {name}"] = names.get(name)
    return {name: str(path) for name, path in written.items() if path}


def command_of(args: argparse.Namespace, study_path: str) -> list[str]:
    """The command that runs in the job, in words."""
    shared = args.target in SHARED
    words = ["eus-ray", args.command, study_path, "--out", absolute(args.out) if shared else args.out]
    if args.models:
        words += ["--models", ",".join(args.models)]
    if args.preset:
        words += ["--preset", args.preset]
    for override in args.set:
        name, value = parse_override(override)
        if shared and name == "data.manifest":  # in an override it is relative to the current folder
            override = f"{name}={absolute(str(value))}"
        words += ["--set", override]
    if args.trials is not None:
        words += ["--trials", str(args.trials)]
    if args.start_from is not None:
        words += ["--from", absolute(args.start_from) if shared else args.start_from]
    return [*words, "--resume"]  # a job that is begun again goes on, and a new folder has nothing to go on from


def absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())


# ---- options ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ports:
    """Ray's ports, all within a range: ten for its services, the rest for its workers."""

    first: int
    last: int

    @property
    def head(self) -> list[str]:
        return [f"--dashboard-port={self.first + 1}", f"--ray-client-server-port={self.first + 2}"]

    @property
    def every_node(self) -> list[str]:
        services = ("object-manager", "node-manager", "runtime-env-agent", "metrics-export", "dashboard-agent-grpc")
        fixed = [f"--{name}-port={self.first + 3 + place}" for place, name in enumerate(services)]
        agent = f"--dashboard-agent-listen-port={self.first + 8}"
        return [*fixed, agent, f"--min-worker-port={self.first + 10}", f"--max-worker-port={self.last}"]


def port_range(text: str | None, lines: list[str]) -> Ports | None:
    """The ports of `FIRST-LAST`; what is wrong with it is added to `lines`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text, re.ASCII)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if first < 1024 or last > 65535 or last - first < 99:
        lines.append(f"--port-range {text}: write FIRST-LAST, 100 ports at least between 1024 and 65535")
        return None
    return Ports(first, last)


def slurm_seconds(text: str) -> int | None:
    """A time limit of Slurm in seconds; None where it is none.

    >>> [slurm_seconds(text) for text in ("90", "1:30", "2:00:00", "1-12", "1-12:30", "1-00:00:30", "1-", "2h")]
    [5400, 90, 7200, 129600, 131400, 86430, None, None]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text, re.ASCII)
    if match is None:
        return None
    days, first, second, third = (None if part is None else int(part) for part in match.groups())
    assert first is not None
    if days is None and second is None:
        return first * 60
    if days is None and third is None:
        return first * 60 + (second or 0)
    return (days or 0) * 86400 + first * 3600 + (second or 0) * 60 + (third or 0)


def is_given(value: Any) -> bool:
    return value is not None and value is not False and value != []


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def mismatches(args: argparse.Namespace, patterns: Mapping[str, tuple[re.Pattern[str], str]]) -> list[str]:
    """A line for each option that is given and does not match its pattern: what it should be stands beside that."""
    values = {name: getattr(args, name) for name in patterns}
    return [
        f"{flag(name)} {value}: write {patterns[name][1]}"
        for name, value in values.items()
        if value is not None and not patterns[name][0].fullmatch(value)
    ]


def below(args: argparse.Namespace, least: int, *names: str) -> list[str]:
    """A line for each number that is given and too small."""
    values = {name: getattr(args, name) for name in names}
    return [
        f"{flag(name)} {value}: must be {least} at least"
        for name, value in values.items()
        if value is not None and value < least
    ]


def not_one_line(lines: Iterable[str], name: str) -> list[str]:
    return [f"{name} {line!r}: one line each" for line in lines if not line.isprintable() or not line.strip()]
