"""Checks before a launch: the study as the job will read it, and the options of the target."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from eus_ray.cli.parsing import location, read_study
from eus_ray.config import Study
from eus_ray.config_file import flatten_only, parse_override, read_toml
from eus_ray.errors import UserError

SHARED_TARGETS = ("local", "slurm", "ray")
"""Their nodes see the paths of this machine."""
_PATH_FIELDS = ("data.manifest", "model.weights", "search.space")


def refuse(lines: Collection[str]) -> None:
    """Raise `UserError` with these lines, if there are any."""
    if lines:
        raise UserError(*lines)


def check_study(args: argparse.Namespace) -> None:
    """Raise `UserError` for everything that this machine can tell is wrong with the study, a line each."""
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
    refuse(lines)
    study = read_study(args)
    if not study.data.manifest:
        lines.append(f"{args.study}: data.manifest is not set: name the manifest, or --set data.manifest=FILE")
    if args.command != "tune":
        tune_options = {"--trials": args.trials, "--from": args.start_from}
        lines += [f"{name} is of tune; add --command tune" for name, value in tune_options.items() if value is not None]
    lines += _study_defects(args, study) if args.target in SHARED_TARGETS else _relative_paths(args)
    refuse(lines)


def _study_defects(args: argparse.Namespace, study: Study) -> list[str]:
    """Return what is wrong with a study whose files this machine can read."""
    from eus_ray.models import check_model_of
    from eus_ray.search.space_loader import load_space
    from eus_ray.store import PROVENANCE

    lines = []
    if study.data.manifest and not Path(study.data.manifest).is_file():
        lines.append(f"data.manifest: {study.data.manifest}: no such file")
    for model in study.models:
        settings = study.for_model(model)
        try:
            check_model_of(settings)
            if args.command == "tune":
                load_space(settings, check_model_of)
        except UserError as error:
            lines += error.lines
    if "://" not in args.out and not args.resume and (Path(location(args.out)) / PROVENANCE).exists():
        lines.append(f"{args.out}: holds a study already; --resume goes on with it, or choose another --out")
    return list(dict.fromkeys(lines))


def _relative_paths(args: argparse.Namespace) -> list[str]:
    """Return a line for each path that is relative, so that on the nodes it would mean another file or none."""
    named = {**written_paths(args), "--out": args.out, "--from": args.start_from or "/"}
    return [
        f"{name} {path}: the nodes do not see the folders of this machine; write the absolute path that they see"
        for name, path in named.items()
        if "://" not in path and not PurePosixPath(path).is_absolute()
    ]


def written_paths(args: argparse.Namespace) -> dict[str, str]:
    """Return the paths in study file and overrides by field, as they are written there."""
    tree = read_toml(Path(args.study))
    flatten_only(tree)
    overrides = dict(parse_override(text) for text in args.set)
    written: dict[str, Any] = {}
    for name in _PATH_FIELDS:
        section, field = name.split(".")
        written[name] = overrides.get(name, tree.get(section, {}).get(field))
        for arch, names in tree.get("only", {}).items():
            written[f"[only.{arch}] {name}"] = names.get(name)
    return {name: str(path) for name, path in written.items() if path}


# ---- options --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ports:
    """Ray's ports within one range: the first ten for its services, the rest for its workers."""

    first: int
    last: int

    @property
    def head(self) -> list[str]:
        """The options of `ray start` on the head, besides `--port`."""
        return [f"--dashboard-port={self.first + 1}", f"--ray-client-server-port={self.first + 2}"]

    @property
    def every_node(self) -> list[str]:
        """The options of `ray start` on every node."""
        services = ("object-manager", "node-manager", "runtime-env-agent", "metrics-export", "dashboard-agent-grpc")
        fixed = [f"--{name}-port={self.first + 3 + place}" for place, name in enumerate(services)]
        agent = f"--dashboard-agent-listen-port={self.first + 8}"
        return [*fixed, agent, f"--min-worker-port={self.first + 10}", f"--max-worker-port={self.last}"]


def port_range(text: str | None, lines: list[str]) -> Ports | None:
    """Return the ports of `FIRST-LAST`; if there is something wrong with it, append that to `lines`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text, re.ASCII)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if first < 1024 or last > 65535 or last - first < 99:
        lines.append(f"--port-range {text}: write FIRST-LAST, at least 100 ports between 1024 and 65535")
        return None
    return Ports(first, last)


def slurm_seconds(text: str) -> int | None:
    """Return a time limit of Slurm in seconds, or None if Slurm could not read it.

    >>> [slurm_seconds(text) for text in ("90", "1:30", "2:00:00", "1-12", "1-12:30", "1-00:00:30", "1-", "2h")]
    [5400, 90, 7200, 129600, 131400, 86430, None, None]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text, re.ASCII)
    if match is None:
        return None
    days, first, second, third = (int(part or 0) for part in match.groups())
    if match[1] is None and match[4] is None:  # MINUTES or MINUTES:SECONDS
        return first * 60 + second
    return days * 86400 + first * 3600 + second * 60 + third


def is_given(value: Any) -> bool:
    """Return whether an option was given, a flag or a list among them."""
    return value is not None and value is not False and value != []


def flag(name: str) -> str:
    """Return an option as it is typed.

    >>> flag("cpus_per_task")
    '--cpus-per-task'
    """
    return "--" + name.replace("_", "-")


def pattern_defects(args: argparse.Namespace, patterns: Mapping[str, tuple[re.Pattern[str], str]]) -> list[str]:
    """Return a line for each option that is given and does not match.

    Args:
        args: The parsed options.
        patterns: By option, its pattern, and in words what to write.
    """
    values = {name: getattr(args, name) for name in patterns}
    return [
        f"{flag(name)} {value}: write {patterns[name][1]}"
        for name, value in values.items()
        if value is not None and not patterns[name][0].fullmatch(value)
    ]


def minimum_defects(args: argparse.Namespace, minimum: int, *names: str) -> list[str]:
    """Return a line for each of the options that is given and below its minimum."""
    values = {name: getattr(args, name) for name in names}
    return [
        f"{flag(name)} {value}: must be at least {minimum}"
        for name, value in values.items()
        if value is not None and value < minimum
    ]


def line_defects(texts: Iterable[str], option: str) -> list[str]:
    """Return a line for each text of an option that is not one printable line."""
    return [f"{option} {text!r}: one line each" for text in texts if not text.isprintable() or not text.strip()]
