"""Relations among means, SDs and ranges of one group of images.

Averages of any images obey them. Per image, with the contours' directed mean distances m_AB and m_BA:

    IoU = DSC / (2 - DSC)        convex: for means, Jensen's inequality and the chord give D/(2 - D) <= IoU <= D
    MAD = (m_AB + m_BA) / 2 <= AVD = max(m_AB, m_BA) <= 2 MAD, AVD <= HD, HD95 <= HD
    SD <= sqrt((b - m) (m - a) n / (n - 1)) for n values between a and b with mean m (Bhatia and Davis 2000)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from eus_ray.analysis.audit.findings import Finding, Verdict, apart, show, show_root
from eus_ray.analysis.audit.statements import Aspect, Statement

Book = Mapping[tuple[str, Aspect], Statement]
"""What one table states about one group, by metric and aspect."""

_LARGER = "MAD is the mean and AVD the larger of the two directed means"
_AT_MOST = (
    ("mad", "avd", 1, f"{_LARGER}, so MAD <= AVD"),
    ("avd", "mad", 2, f"{_LARGER}, so AVD <= 2 MAD"),
    ("avd", "hd", 1, "AVD averages distances of which HD is the largest"),
    ("mad", "hd", 1, "MAD averages distances of which HD is the largest"),
    ("assd", "avd", 1, "ASSD lies between the two directed means, AVD is the larger"),
    ("assd", "hd", 1, "ASSD averages distances of which HD is the largest"),
    ("hd95", "hd", 1, "HD95 is a percentile of distances of which HD is the largest"),
    ("hd95_pooled", "hd", 1, "HD95 is a percentile of distances of which HD is the largest"),
    ("avd_truth_to_pred", "avd", 1, "AVD is the larger of the two directed means"),
    ("avd_pred_to_truth", "avd", 1, "AVD is the larger of the two directed means"),
)
"""(a, b, factor, reason): in every image, and so in every mean, a <= factor b."""

_ENDS: tuple[tuple[Aspect, Aspect, Verdict, str, str], ...] = (
    ("low", "high", "look", "the interval leaves its own mean out", "a slip, or an interval of a median"),
    ("min", "max", "impossible", "a mean lies within the range of its values", "a slip, or a range of other values"),
)
"""(lower end, upper end, verdict, reason, meaning) if a mean lies beyond an end."""


def check_relations(book: Book) -> Iterator[Finding]:
    """Find contradictions among one table's statements about one group."""
    for check in (_spread, _overlaps, _single_image, _distances, _ends, _rank_tests, _shares_of_counts):
        yield from check(book)


def alike(*statements: Statement) -> bool:
    """Return whether the statements can be of the same values.

    No two may name different numbers of them, or units.
    """
    return len({one.n for one in statements} - {None}) < 2 and len({one.unit for one in statements}) == 1


def _spread(book: Book) -> Iterator[Finding]:
    """Find SDs larger than any values of this mean and range can have.

    Without n it is the bound of two values, the loosest.
    """
    for (metric, aspect), one in book.items():
        if aspect != "mean" or one.kind == "count" or one.sd is None or one.sd.low <= 0 or one.n == 1:
            continue
        low, high = Fraction(0), Fraction(1) if one.kind in ("ratio", "share") else None
        smallest, largest = book.get((metric, "min")), book.get((metric, "max"))
        if smallest is not None and alike(one, smallest):
            low = max(low, smallest.value.low)
        if largest is not None and alike(one, largest):
            high = largest.value.high if high is None else min(high, largest.value.high)
        n = f"n = {one.n}" if one.n else "n not known, 2 at least"
        if high is not None:
            mean = min(max((low + high) / 2, one.value.low), one.value.high)
            factor = Fraction(one.n, one.n - 1) if one.n else Fraction(2)
            most = max(Fraction(0), (high - mean) * (mean - low)) * factor
            formula = "√(m(1 - m) n/(n - 1))" if (low, high) == (0, 1) else "√((b - m)(m - a) n/(n - 1))"
            known = f"m = {show(mean)}, {n}" + ("" if (low, high) == (0, 1) else f", a = {show(low)}, b = {show(high)}")
        elif one.n:
            most = one.value.high**2 * one.n
            formula, known = "m √n", f"no value is negative, m = {show(one.value.high)}, {n}"
        else:
            continue
        if one.sd.low**2 > most:
            yield Finding(
                "impossible",
                (one,),
                what=f"{one.name} is {one.value.text} with an SD of {one.sd.text}",
                why=f"the SD is at most {formula} = {show_root(most)} ({known})",
                meaning="an SD in another unit than its mean, a range in its place, or another n",
            )


def least_mean_iou(dsc: Fraction, variance: Fraction = Fraction(0)) -> Fraction:
    """Return the smallest mean IoU of images with a given mean DSC.

    D² / (2D - D² - v), which is D/(2 - D) for v = 0: IoU = f(DSC) with f''' > 0, so that of all distributions with
    these two moments the one on 0 and D + v/D alone, their lower principal representation, is extreme (Karlin and
    Studden 1966). From 1 - IoU to 1 - DSC it gives the largest. Rises in both arguments.

    Args:
        dsc: The mean DSC, in [0, 1].
        variance: The images' DSC vary by at least this (over N).
    """
    if dsc <= 0:
        return Fraction(0)
    variance = min(variance, dsc * (1 - dsc))
    return dsc**2 / (2 * dsc - dsc**2 - variance)


def most_mean_dsc(iou: Fraction, variance: Fraction = Fraction(0)) -> Fraction:
    """Return the largest mean DSC of images with a given mean IoU.

    2Y / (1 + Y) for v = 0: 1 - DSC = f(1 - IoU) with the f of `least_mean_iou`.

    Args:
        iou: The mean IoU, in [0, 1].
        variance: The images' IoU vary by at least this (over N).
    """
    return 1 - least_mean_iou(1 - iou, variance)


def _overlaps(book: Book) -> Iterator[Finding]:
    """Compare mean IoU with mean DSC.

    Their SDs count as far as they say how much images differ.
    """
    dsc, iou = book.get(("dsc", "mean")), book.get(("iou", "mean"))
    if dsc is None or iou is None or not alike(dsc, iou):
        return
    pair, what = (dsc, iou), f"DSC is {dsc.value.text} and IoU {iou.value.text}"
    kinds = "averages of different kinds (per image, and of all pixels together), or of different images"
    dsc_low, iou_high = max(Fraction(0), dsc.value.low), min(Fraction(1), iou.value.high)
    if iou.value.low > dsc.value.high:
        yield Finding("impossible", pair, what, "IoU <= DSC in every image", f"swapped columns, or {kinds}")
        return
    if iou_high < (least := least_mean_iou(dsc_low)):
        yield Finding(
            "impossible",
            pair,
            what,
            why=f"the mean IoU is at least D/(2 - D) = {show(least)} (D = {show(dsc_low)}, Jensen's inequality)",
            meaning=kinds,
        )
        return
    if 1 in (dsc.n, iou.n):
        if iou.value.low > (exact := least_mean_iou(min(Fraction(1), dsc.value.high))):
            yield Finding(
                "look",
                pair,
                what,
                why=f"in one image IoU = DSC/(2 - DSC), here {show(exact)} at most",
                meaning="n = 1 patient or fold with several images",
            )
        return
    meaning = "an SD of other values than its mean, or a slip"
    if dsc.sd is not None and iou_high < (least := least_mean_iou(dsc_low, _least_variance(dsc))):
        yield Finding(
            "look",
            pair,
            what,
            why=f"with an SD of {dsc.sd.text} of the DSC, the mean IoU is at least D²/(2D - D² - SD²) = {show(least)}",
            meaning=meaning,
        )
    if iou.sd is not None and dsc_low > (most := most_mean_dsc(iou_high, _least_variance(iou))):
        yield Finding(
            "look",
            pair,
            what,
            why=f"with an SD of {iou.sd.text} of the IoU, the mean DSC is at most {show(most)}",
            meaning=meaning,
        )


def _least_variance(one: Statement) -> Fraction:
    """Return the smallest variance (over N) that a printed SD leaves.

    Images vary at least as much as their folds' means, so it holds for SDs over images, patients and folds.
    """
    if one.sd is None or one.sd.low <= 0:
        return Fraction(0)
    return one.sd.low**2 * (Fraction(one.n - 1, one.n) if one.n else Fraction(1, 2))


def _single_image(book: Book) -> Iterator[Finding]:
    """Check DSC = 2 SEN PC / (SEN + PC) for n = 1: it holds for images, not for means."""
    three = [book[name, "mean"] for name in ("dsc", "sen", "pc") if (name, "mean") in book]
    if len(three) < 3 or {one.n for one in three} != {1}:
        return
    dsc, sen, pc = (one.value for one in three)
    if sen.low <= 0 or pc.low <= 0:
        return  # 0/0 is 0 to some and 1 to others
    low, high = 2 / (1 / sen.low + 1 / pc.low), 2 / (1 / sen.high + 1 / pc.high)
    if dsc.high < low or dsc.low > high:
        yield Finding(
            "look",
            tuple(three),
            what=f"DSC is {dsc.text}, SEN {sen.text} and PC {pc.text}, of one image",
            why=f"in one image DSC = 2 SEN PC/(SEN + PC), here {show(low)} to {show(high)}",
            meaning="n = 1 patient or fold with several images",
        )


def _distances(book: Book) -> Iterator[Finding]:
    for small, large, factor, why in _AT_MOST:
        one, other = book.get((small, "mean")), book.get((large, "mean"))
        if one is None or other is None or not alike(one, other):
            continue
        if one.value.low > factor * other.value.high:
            yield Finding(
                "impossible",
                (one, other),
                what=f"{one.name} is {one.value.text} and {other.name} {other.value.text}",
                why=why,
                meaning="swapped columns, another definition of one of them, or other images",
            )


def _ends(book: Book) -> Iterator[Finding]:
    """Find intervals and ranges that are upside down, or leave their mean out."""
    for metric in dict.fromkeys(metric for metric, _ in book):
        for below, above, verdict, why, meaning in _ENDS:
            mean, low, high = (book.get((metric, aspect)) for aspect in ("mean", below, above))
            if low is not None and high is not None and alike(low, high) and low.value.low > high.value.high:
                yield Finding(
                    "impossible",
                    (low, high),
                    what=f"{low.name} is {low.value.text}, {high.name} {high.value.text}",
                    why="they are upside down",
                    meaning="swapped columns or a lost sign",
                )
                continue
            for end in filter(None, (low, high)):
                if mean is None or not alike(mean, end):
                    continue
                if not (end.value.low > mean.value.high if end is low else end.value.high < mean.value.low):
                    continue
                what = f"{mean.name} is {mean.value.text}, {end.name} {end.value.text}"
                yield Finding(verdict, (mean, end), what, why, meaning)


def _rank_tests(book: Book) -> Iterator[Finding]:
    """Compare the p-values of IoU and DSC in a test of ranks.

    IoU rises with DSC, image by image: both put images in one order, and a test of ranks answers the same.
    """
    dsc, iou = book.get(("dsc", "kruskal_p")), book.get(("iou", "kruskal_p"))
    if dsc is not None and iou is not None and apart(dsc.value, iou.value):
        yield Finding(
            "look",
            (dsc, iou),
            what=f"p of a test of ranks is {dsc.value.text} for DSC and {iou.value.text} for IoU",
            why="IoU = DSC/(2 - DSC) ranks images as DSC does, so that both have one p",
            meaning="a slip, or a test of patients' means, whose order may differ a little",
        )


def _shares_of_counts(book: Book) -> Iterator[Finding]:
    for (metric, aspect), count in book.items():
        share = book.get((metric.replace("count", "share", 1), aspect))
        if count.kind != "count" or share is None or len(wholes := {count.n, share.n} - {None}) != 1:
            continue
        n = wholes.pop() or 1
        part = count.value.low / n
        if not share.value.low <= part <= share.value.high:
            yield Finding(
                "impossible",
                (count, share),
                what=f"{share.name} is {share.value.text}, {count.name} {count.value.text}, of {n}",
                why=f"{count.value.text} of {n} are {show(100 * part)} %",
                meaning="another n for one of them, such as missing values",
            )
