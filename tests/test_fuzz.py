"""2,000 mutated pictures and tables: each is read, or refused in one line; no hang, no full memory, no library's line.

They are read in processes of their own, so that a crash of a decoder is a failed test, and what a library prints is
seen. `python -m tests.test_fuzz FIRST LAST` reads some of them; a case is the same in every run.
"""

from __future__ import annotations

import io
import itertools
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from eus_ray.data.io.images import decode, to_uint8
from eus_ray.data.io.tables import parse_table
from eus_ray.errors import UserError
from tests.data.io.writers import SIGNATURE, chunk, patched, pillow, png, tiff, values

NUM_CASES = 2000
NUM_PROCESSES = 2
LIMIT_S = 5.0
"""Of a case, on a busy machine; most take a millisecond."""
LIMIT_MB = 600
"""By which no case may raise the peak: above two pictures of the most pixels that are read, in 8 bits."""
Random = np.random.Generator


class HangError(BaseException):
    """A case takes too long; nothing catches it on the way."""


# ---- sound files ------------------------------------------------------------------------------------


def pictures() -> list[bytes]:
    gray, deep = values(1, (40, 56), np.uint8), values(2, (40, 56), np.uint16)
    colour, lesion = values(3, (40, 56, 3), np.uint8), values(4, (40, 56), bool)
    smooth = cv2.GaussianBlur(colour, (9, 9), 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = chunk(b"PLTE", values(5, (16, 3), np.uint8).tobytes())
    return [
        png(lesion.astype(np.uint8), 1, 0),
        png(gray, 8, 0),
        png(deep, 16, 0),
        png(gray % 16, 4, 3, palette + chunk(b"tRNS", bytes(16))),
        png(np.dstack([deep] * 3), 16, 2, chunk(b"tEXt", b"Comment\0text")),
        png(np.dstack([deep] * 4), 16, 6, is_interlaced=True),
        png(np.dstack([colour, gray]), 8, 6, chunk(b"pHYs", bytes(9))),
        pillow(Image.fromarray(gray), "PNG", exif=exif),
        pillow(Image.fromarray(lesion), "BMP"),
        pillow(Image.fromarray(gray), "BMP"),
        pillow(Image.fromarray(colour), "BMP"),
        pillow(Image.fromarray(smooth), "JPEG", exif=exif),
        pillow(Image.fromarray(smooth[..., 0]), "JPEG", progressive=True),
        pillow(Image.fromarray(smooth), "MPO", save_all=True, append_images=[Image.fromarray(smooth)]),
        tiff(gray),
        tiff(lesion, rowsperstrip=9),
        tiff(deep, compression="zlib", predictor=2, rowsperstrip=9),
        tiff(deep, compression="lzw", byteorder=">", bigtiff=True),
        tiff(colour, compression="packbits", tile=(16, 16)),
        tiff(np.moveaxis(colour, -1, 0), photometric="rgb", planarconfig="separate", compression="zstd"),
        tiff(smooth, compression="jpeg", tile=(16, 16)),
        tiff(gray.astype(np.float32), compression="zlib", predictor=3),
        tiff(gray, photometric="palette", colormap=values(6, (3, 256), np.uint16)),
        tiff(np.stack([gray] * 4), photometric="minisblack"),
        tiff(np.stack([gray] * 4), imagej=True),
        tiff(np.stack([gray] * 4), ome=True, photometric="minisblack"),
        tiff(gray, compression="jpeg2000", tile=(16, 16)),
        tiff(gray, compression="lerc"),
        pillow(Image.fromarray(lesion), "TIFF", compression="group3"),
        pillow(Image.fromarray(lesion), "TIFF", compression="group4"),
        pillow(Image.fromarray(gray), "TIFF", compression="tiff_lzw"),
    ]


def tables() -> list[bytes]:
    frame = pd.DataFrame(
        {
            "image": [f"images/{number:03}.png" for number in range(30)],
            "patient_id": [f"Müller {number % 7}" for number in range(30)],
            "age": [40.5 + number for number in range(30)],
            "note": ['a "quoted", text'] * 29 + [None],
        }
    )
    text = frame.to_csv(index=False)
    odd = pd.concat([frame, frame["image"].astype("category").rename("kind")], axis=1)
    odd["day"], odd["is_old"], odd["rank"] = pd.Timestamp("2020-01-02"), frame["age"] > 50, frame.index.astype("int8")
    parquets = []
    for table, compression in ((frame, "snappy"), (odd, None), (frame[frame["age"] > 50], "zstd")):
        buffer = io.BytesIO()
        table.to_parquet(buffer, compression=compression)
        parquets.append(buffer.getvalue())
    return [
        text.encode(),
        frame.to_csv(sep=";", decimal=",").encode("utf-8-sig"),
        frame.to_csv(sep="\t", lineterminator="\r\n").encode("utf-16"),
        ("sep=|\r" + frame.to_csv(sep="|", lineterminator="\r", quoting=1)).encode(),
        *parquets,
        *parquets,
    ]


# ---- mutations --------------------------------------------------------------------------------------

EXTREMES = (0, 1, 2, 7, 8, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def flip(content: bytes, rng: Random, _others: list[bytes]) -> bytes:
    changed = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, len(content), rng.integers(1, 12))
    changed[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    return changed.tobytes()


def cut(content: bytes, rng: Random, _others: list[bytes]) -> bytes:
    return content[: rng.integers(0, len(content))]


def lose(content: bytes, rng: Random, _others: list[bytes]) -> bytes:
    first, last = sorted(rng.integers(0, len(content), 2))
    return content[:first] + (bytes(last - first) if rng.integers(2) else b"") + content[last:]


def change_header(content: bytes, rng: Random, _others: list[bytes]) -> bytes:
    """Set a number near the beginning or the end to one that is far from what it was."""
    at = int(rng.integers(0, min(len(content), 200)))
    at = len(content) - 4 - at if rng.integers(4) == 0 else at
    size = int(rng.choice([1, 2, 4]))
    number = int(rng.choice(EXTREMES)) % 256**size
    return patched(content, max(at, 0), number.to_bytes(size, "little" if rng.integers(2) else "big"))


def splice(content: bytes, rng: Random, others: list[bytes]) -> bytes:
    other = others[rng.integers(len(others))]
    return content[: rng.integers(0, len(content))] + other[rng.integers(0, len(other)) :]


def repeat(content: bytes, rng: Random, _others: list[bytes]) -> bytes:
    first, last = sorted(rng.integers(0, len(content), 2))
    return content[:last] + content[first:last] * int(rng.integers(1, 40)) + content[last:]


def change_chunks(content: bytes, rng: Random, others: list[bytes]) -> bytes:
    """Swap, drop, repeat or enlarge a PNG's chunks, with sums that are right."""
    if not content.startswith(SIGNATURE):
        return change_tags(content, rng, others)
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += length + 12
    one, other = rng.integers(0, len(chunks), 2)
    how = rng.integers(5)
    if how == 0:
        chunks[one], chunks[other] = chunks[other], chunks[one]
    elif how == 1:
        del chunks[one]
    elif how == 2:
        chunks.insert(other, chunks[one])
    elif how == 3:
        name, data = chunks[one]
        chunks[one] = (name, change_header(data or bytes(9), rng, others))
    else:
        size = rng.choice([0, 1, 39, 41, 16_000, 20_000, 2**31 - 1], 2)
        chunks[0] = (b"IHDR", struct.pack(">II", *map(int, size)) + chunks[0][1][8:])
    return SIGNATURE + b"".join(chunk(*one) for one in chunks)


def change_tags(content: bytes, rng: Random, others: list[bytes]) -> bytes:
    """Have a TIFF's tags say and point to anything, and its pages follow each other in a circle."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2], "")
    if not order or content[2:4] not in (b"*\0", b"\0*"):
        return flip(change_header(content, rng, others), rng, others)
    (first,) = struct.unpack_from(order + "I", content.ljust(8), 4)
    (count,) = struct.unpack_from(order + "H", content[first:].ljust(2))
    end = first + 2 + 12 * count
    if not count or end + 4 > len(content):
        return flip(content, rng, others)
    if rng.integers(8) == 0:
        return patched(content, end, struct.pack(order + "I", rng.choice([first, 8, 4, end, len(content) - 3, 2**31])))
    for _ in range(rng.integers(1, 4)):
        at = first + 2 + 12 * int(rng.integers(count))
        field, form = [(0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "I")][rng.integers(6)]
        number = int(rng.choice([*EXTREMES, first, len(content) - 1])) % 256 ** struct.calcsize(form)
        content = patched(content, at + field, struct.pack(order + form, number))
    return content


def bombs() -> list[bytes]:
    """Files that say more than they hold, or unpack to more than memory has."""
    rows = zlib.compress(bytes(300_000_000), 1)
    header = struct.pack(">IIBBBBB", 16_000, 16_000, 8, 0, 0, 0, 0)
    enlarged = [
        tiff(np.zeros((8, 8), kind), compression=codec, rowsperstrip=8, extratags=[])
        for kind in (np.uint8, np.float64)
        for codec in (None, "zlib", "lzw", "packbits", "zstd")
    ]
    return [
        SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND"),
        SIGNATURE + chunk(b"IHDR", header) + chunk(b"zTXt", b"a\0\0" + rows) + chunk(b"IEND"),
        png(np.zeros((4, 4), np.uint8), 8, 0, after=chunk(b"IDAT", rows)),
        *(_enlarged(content) for content in enlarged),
        b"image,mask\n" + b'"' + b"x" * 20_000_000,
        b"a" * 5_000_000,
        b"," * 3_000_000,
        b"\n" * 5_000_000,
        b'a,b\n1,"2\n' + b"3\n" * 300_000,
        b'"\n' * 1_000_000,
        b"a,b\n" * 300_000,
    ]


def _enlarged(content: bytes) -> bytes:
    """Make a TIFF of one strip 16,000 pixels wide and high."""
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    for at in range(first + 2, first + 2 + 12 * count, 12):
        (code,) = struct.unpack_from("<H", content, at)
        if code in (256, 257, 278):
            content = patched(content, at + 2, struct.pack("<HII", 4, 1, 16_000))
    return content


MUTATIONS: tuple[Callable[[bytes, Random, list[bytes]], bytes], ...] = (
    flip,
    cut,
    lose,
    change_header,
    splice,
    repeat,
    change_chunks,
    change_tags,
)


def case(number: int, sound: list[bytes]) -> bytes:
    rng = np.random.default_rng(number)
    content = sound[number % len(sound)]
    for _ in range(rng.integers(1, 3)):
        content = MUTATIONS[rng.integers(len(MUTATIONS))](content or b"\0", rng, sound)
    return content


# ---- the readers ------------------------------------------------------------------------------------


def read_all(content: bytes) -> list[str]:
    """Read content as a picture and as a table; return the lines that users would see."""
    told = []
    try:
        picture = decode(content)
    except ValueError as error:
        told.append(str(error))
    else:
        to_uint8(picture.gray, "auto")
        for wanted in (picture.mask, picture.labels, picture.levels):
            try:
                wanted()
            except ValueError as error:
                told.append(str(error))
    try:
        table = parse_table(content, "table.csv")
    except UserError as error:
        told += error.lines
    else:
        told += [*table.defects, *table.warnings]
        if not table.defects:
            table.frame()
    return told


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(first: int, last: int) -> None:
    """Print what is wrong with the cases, and nothing if nothing is."""

    def stop(*_: object) -> None:
        raise HangError

    signal.signal(signal.SIGALRM, stop)
    sound = [*pictures(), *tables()]
    extra = bombs()[first % NUM_PROCESSES :: NUM_PROCESSES]
    for number in range(first, last + len(extra)):
        content = case(number, sound) if number < last else extra[number - last]
        before = peak_mb()
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        try:
            told = read_all(content)
        except HangError:
            print(f"case {number}: takes more than {LIMIT_S} s")
        except Exception as error:
            print(f"case {number}: {type(error).__name__}: {error}")
        else:
            odd = [line for line in told if not line.isprintable() or not line or len(line) > 2000]
            if odd:
                print(f"case {number}: tells {odd[0][:300]!r}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if peak_mb() - before > LIMIT_MB:
            print(f"case {number}: raises the peak of memory to {peak_mb():.0f} MB, by {peak_mb() - before:.0f}")


def test_mutated_files_are_read_or_refused_in_a_line() -> None:
    bounds = np.linspace(0, NUM_CASES, NUM_PROCESSES + 1).astype(int)
    began = time.monotonic()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.test_fuzz", str(first), str(last)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        for first, last in itertools.pairwise(bounds)
    ]
    for process in running:
        printed, _ = process.communicate(timeout=300)
        assert printed == ""
        assert process.returncode == 0
    assert time.monotonic() - began < 300


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
