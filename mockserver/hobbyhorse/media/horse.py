"""A silhouette of a horse, drawn from an outline. Imports only Pillow."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

Ink = tuple[int, int, int]
Joint = tuple[float, float, float]

# The outline in a unit square, facing right: x from tail to nose, y downwards. Traced by hand. Few points are enough,
# because a spline through them is smooth at any size.
BODY = (
    (0.140, 0.400), (0.170, 0.345), (0.240, 0.315), (0.330, 0.325), (0.430, 0.345), (0.520, 0.335),
    (0.585, 0.295), (0.640, 0.215), (0.690, 0.130), (0.745, 0.075), (0.765, 0.025), (0.788, 0.070),
    (0.830, 0.100), (0.875, 0.155), (0.918, 0.205), (0.928, 0.240), (0.905, 0.268), (0.865, 0.252),
    (0.815, 0.235), (0.775, 0.255), (0.745, 0.320), (0.725, 0.400), (0.710, 0.470), (0.680, 0.530),
    (0.600, 0.565), (0.500, 0.570), (0.400, 0.545), (0.330, 0.540), (0.250, 0.570), (0.170, 0.530),
)  # fmt: skip
# A limb is a chain of joints (x, y, radius), drawn as overlapping discs; the last joint of a leg carries its hoof.
LEGS: tuple[tuple[Joint, ...], ...] = (
    ((0.225, 0.46, 0.072), (0.25, 0.60, 0.042), (0.207, 0.70, 0.021), (0.225, 0.82, 0.0135), (0.235, 0.90, 0.015)),
    ((0.21, 0.44, 0.07), (0.16, 0.58, 0.042), (0.095, 0.68, 0.021), (0.075, 0.80, 0.0135), (0.05, 0.87, 0.015)),
    ((0.64, 0.47, 0.06), (0.65, 0.60, 0.034), (0.645, 0.72, 0.019), (0.65, 0.84, 0.013), (0.655, 0.90, 0.015)),
    ((0.67, 0.47, 0.055), (0.74, 0.57, 0.032), (0.812, 0.615, 0.020), (0.80, 0.71, 0.013), (0.777, 0.77, 0.014)),
)  # fmt: skip
TAIL: tuple[tuple[Joint, ...], ...] = (
    ((0.150, 0.37, 0.014), (0.105, 0.375, 0.026), (0.06, 0.44, 0.030), (0.035, 0.54, 0.026), (0.005, 0.65, 0.002)),
    ((0.150, 0.37, 0.014), (0.110, 0.39, 0.024), (0.075, 0.46, 0.024), (0.060, 0.54, 0.018), (0.045, 0.62, 0.002)),
)  # fmt: skip
MANE: tuple[tuple[Joint, ...], ...] = (
    ((0.750, 0.075, 0.010), (0.690, 0.125, 0.024), (0.640, 0.200, 0.026), (0.590, 0.280, 0.020)),
    ((0.745, 0.070, 0.012), (0.690, 0.100, 0.018), (0.640, 0.130, 0.014), (0.595, 0.140, 0.002)),
    ((0.715, 0.110, 0.016), (0.655, 0.160, 0.020), (0.600, 0.195, 0.014), (0.552, 0.210, 0.002)),
    ((0.670, 0.165, 0.018), (0.615, 0.220, 0.020), (0.565, 0.262, 0.014), (0.515, 0.282, 0.002)),
    ((0.760, 0.070, 0.010), (0.785, 0.085, 0.014), (0.805, 0.120, 0.002)),
)  # fmt: skip


def draw_horse(canvas: Image.Image, left: float, foot: float, size: float, *, coat: Ink, hair: Ink) -> None:
    """Paste a horse of `size` pixels with its hooves at the height `foot`. With a negative size, it faces left."""
    side = max(8, round(abs(size)))
    coat_mask, hair_mask = _mask(side, coat=True), _mask(side, coat=False)
    if size < 0:
        coat_mask, hair_mask = (m.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for m in (coat_mask, hair_mask))
    # In the unit square, standing hooves end at 0.90 + 0.03.
    corner = (round(left), round(foot - 0.93 * side))
    canvas.paste(coat, corner, coat_mask)
    canvas.paste(hair, corner, hair_mask)


def _mask(side: int, *, coat: bool) -> Image.Image:
    """Return a mask of `side` pixels with either the coat or the hair."""
    # Pillow draws shapes without anti-aliasing, so draw at twice the size and reduce.
    fine = side * 2
    mask = Image.new("L", (fine, fine))
    draw = ImageDraw.Draw(mask)
    if coat:
        points = _smooth(BODY, closed=True, steps=10)
        draw.polygon([(x * fine, y * fine) for x, y in points], fill=255)
        for x, y, _ in (leg[-1] for leg in LEGS):
            hoof = ((x - 0.015, y), (x + 0.012, y - 0.01), (x + 0.04, y + 0.03), (x - 0.018, y + 0.03))
            draw.polygon([(a * fine, b * fine) for a, b in hoof], fill=255)
    for limb in LEGS if coat else (*TAIL, *MANE):
        # A larger horse needs more discs, or its limbs would look like strings of beads.
        for x, y, r in _smooth(limb, closed=False, steps=max(10, side // 24)):
            box = ((x - r) * fine, (y - r) * fine, (x + r) * fine, (y + r) * fine)
            draw.ellipse(box, fill=255)
    return mask.reduce(2)


def _smooth(points: Sequence[tuple[float, ...]], *, closed: bool, steps: int) -> list[tuple[float, ...]]:
    """Return points on a Catmull-Rom spline through the given points, `steps` for each section."""
    count = len(points)
    ends = count if closed else count - 1

    def point(i: int) -> tuple[float, ...]:
        return points[i % count] if closed else points[min(max(i, 0), count - 1)]

    curve: list[tuple[float, ...]] = []
    for i in range(ends):
        corners = zip(point(i - 1), point(i), point(i + 1), point(i + 2), strict=True)
        splines = [(a, b, c, d) for a, b, c, d in corners]
        curve += [tuple(_spline(*spline, s / steps) for spline in splines) for s in range(steps)]
    return curve


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    """Return the uniform Catmull-Rom spline's value at t (0 to 1) between b and c."""
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)
