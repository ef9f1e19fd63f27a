"""The twelve materials, as big sheets from which a background is cropped."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SHEET = 192
"""Side of a sheet in pixels."""

_Y, _X = np.mgrid[0:SHEET, 0:SHEET].astype(np.float32)


def wood(rng: np.random.Generator) -> np.ndarray:
    """Horizontal planks with grain."""
    plank = (_Y // 24).astype(int)
    shift = rng.uniform(0, 100, 9)[plank]
    tone = rng.uniform(-14, 14, 9)[plank]
    grain = np.sin((_Y + 3 * np.sin((_X + shift) / 23 + shift)) * 1.3 + shift) * 9 + _noise(rng, 30, 1) * 8
    light = tone + grain
    light[_Y % 24 < 2] = -75
    seam = ((_X + shift * 7) % 96 < 2) & (_Y % 24 >= 2)
    light[seam] = -65
    return _tinted((190, 136, 82), light)


def brick(rng: np.random.Generator) -> np.ndarray:
    """Courses of red brick in pale mortar."""
    row = (_Y // 12).astype(int)
    across = _X + 12 * (row % 2)
    column = (across // 24).astype(int)
    tone = rng.uniform(-20, 20, (17, 10))[row, column] + _noise(rng, 1, 1) * 6
    sheet = _tinted((168, 78, 58), tone)
    sheet[(_Y % 12 < 2) | (across % 24 < 2)] = (214, 202, 188)
    return sheet


def grass(rng: np.random.Generator) -> np.ndarray:
    """Blades of grass."""
    sheet = Image.new("RGB", (SHEET, SHEET), (52, 104, 40))
    pen = ImageDraw.Draw(sheet)
    for _ in range(2600):
        x, y = rng.uniform(-5, SHEET + 5, 2)
        length, lean = rng.uniform(8, 16), rng.uniform(-5, 5)
        light = rng.uniform(0.55, 1.25)
        pen.line((x, y, x + lean, y - length), fill=tuple(int(c * light) for c in (92, 158, 58)), width=2)
    return np.asarray(sheet, dtype=np.float32)


def sand(rng: np.random.Generator) -> np.ndarray:
    """Fine grains over soft dunes."""
    dunes = np.sin((_Y + 10 * _noise(rng, 24, 24) + _X * 0.3) / 4.5) * 8
    sheet = _tinted((234, 208, 156), dunes + rng.normal(0, 9, _X.shape))
    sheet[rng.random(_X.shape) < 0.02] = (150, 122, 84)
    return sheet


def water(rng: np.random.Generator) -> np.ndarray:
    """Sunlit ripples."""
    warp = 9 * _noise(rng, 14, 14)
    ripple = np.abs(np.sin((_Y + warp) / 6 + np.sin(_X / 13) * 1.4))
    light = np.where(ripple < 0.22, 95 * (1 - ripple / 0.22), -14 * ripple)
    return _tinted((48, 132, 196), light)


def marble(rng: np.random.Generator) -> np.ndarray:
    """White stone with dark veins."""
    warp = _noise(rng, 26, 26) * 9 + _noise(rng, 8, 8) * 2.5
    vein = np.abs(np.sin((_X + _Y * 0.7 + warp) / 13))
    fine = np.abs(np.sin((_X * 0.5 - _Y + warp * 1.4) / 17))
    light = -125 * np.exp(-vein * 9) - 60 * np.exp(-fine * 16) + _noise(rng, 16, 16) * 7
    return _tinted((236, 234, 236), light)


def metal(rng: np.random.Generator) -> np.ndarray:
    """Tread plate: raised lozenges on brushed steel."""
    light = _noise(rng, 40, 0) * 9
    u, v = _X % 32, _Y % 32
    for du, dv, slope in ((8, 8, 1), (24, 24, 1), (24, 8, -1), (8, 24, -1)):
        along = (u - du) + slope * (v - dv)
        across = (u - du) - slope * (v - dv)
        size = (along / 12) ** 2 + (across / 4.6) ** 2
        light = np.where(size < 1.5, -45, light)
        light = np.where(size < 1, 50 - 8 * across, light)
    return _tinted((146, 156, 168), light)


def stone(rng: np.random.Generator) -> np.ndarray:
    """Rounded cobbles with dark joints."""
    grid = np.stack(np.meshgrid(np.arange(-1, 13), np.arange(-1, 13)), -1).reshape(-1, 2) * 16.0
    seeds = grid + rng.uniform(2, 14, grid.shape)
    distance = np.sqrt((_X[..., None] - seeds[:, 0]) ** 2 + (_Y[..., None] - seeds[:, 1]) ** 2)
    nearest = distance.argmin(-1)
    first, second = np.partition(distance, 1, axis=-1)[..., :2].transpose(2, 0, 1)
    gap = second - first
    tone = rng.uniform(-26, 26, len(seeds))[nearest]
    light = tone + 22 - first * 3 + rng.normal(0, 5, _X.shape)
    return _tinted((128, 122, 112), np.where(gap < 3, -95, light))


def fabric(rng: np.random.Generator) -> np.ndarray:
    """A tartan."""

    def stripes(at: np.ndarray) -> np.ndarray:
        k = at % 36
        dark, pale, warm = (k < 12), (k >= 22) & (k < 25), (k >= 29) & (k < 31)
        return np.select([dark, pale, warm], [np.float32(0), np.float32(1), np.float32(2)], np.float32(3)).astype(int)

    palette = np.array([(52, 40, 92), (236, 226, 236), (222, 150, 70), (142, 100, 164)], dtype=np.float32)
    twill = ((_X + _Y) % 4 < 2)[..., None]
    sheet = np.where(twill, palette[stripes(_X)], palette[stripes(_Y)]) * 0.6
    sheet += (palette[stripes(_X)] + palette[stripes(_Y)]) * 0.2
    return sheet + rng.normal(0, 4, _X.shape)[..., None]


def leather(rng: np.random.Generator) -> np.ndarray:
    """Dark buttoned upholstery."""
    a, b = (_X + _Y) % 32, (_X - _Y) % 32
    puff = np.sin(np.pi * a / 32) * np.sin(np.pi * b / 32)
    light = 58 * puff - 34 + _noise(rng, 2, 2) * 5 + 12 * np.sin(np.pi * a / 32 + 0.9)
    corner = np.minimum(a, 32 - a) ** 2 + np.minimum(b, 32 - b) ** 2
    light = np.where(corner < 22, 58, np.where(corner < 44, -45, light))
    return _tinted((96, 50, 34), light)


def straw(rng: np.random.Generator) -> np.ndarray:
    """A basket weave of straw."""
    lying = ((_X // 18).astype(int) + (_Y // 18).astype(int)) % 2 == 0
    u = np.where(lying, _X % 18, _Y % 18)
    v = np.where(lying, _Y, _X)
    bulge = np.sin(np.pi * (u + 0.5) / 18)
    strand = rng.uniform(-14, 14, SHEET)[v.astype(int)]
    light = 52 * bulge - 38 + strand - 70 * (v % 6 < 1.2)
    return _tinted((226, 188, 96), light)


def tile(rng: np.random.Generator) -> np.ndarray:
    """Glazed chequered tiles."""
    row, column = (_Y // 16).astype(int), (_X // 16).astype(int)
    pale = ((row + column) % 2 == 0)[..., None]
    sheet = np.where(pale, np.array((242.0, 244.0, 240.0)), np.array((108.0, 186.0, 188.0)))
    sheet = sheet + rng.uniform(-8, 8, (12, 12))[row, column][..., None]
    u, v = _X % 16, _Y % 16
    sheet[(np.abs(u + v - 9) < 1.5) & (u > 2.5) & (v > 2.5)] += 34
    sheet[(u < 1.5) | (v < 1.5)] = (92, 104, 112)
    return sheet


TEXTURES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "wood": wood,
    "brick": brick,
    "grass": grass,
    "sand": sand,
    "water": water,
    "marble": marble,
    "metal": metal,
    "stone": stone,
    "fabric": fabric,
    "leather": leather,
    "straw": straw,
    "tile": tile,
}
"""Each paints a float [192, 192, 3] sheet with values around 0..255."""


def sheet(material: str) -> np.ndarray:
    """The sheet of a material, always the same, uint8 [192, 192, 3]."""
    rng = np.random.default_rng(list(TEXTURES).index(material))
    painted = np.clip(TEXTURES[material](rng), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(painted).filter(ImageFilter.GaussianBlur(0.4)))


def _noise(rng: np.random.Generator, wide: float, high: float) -> np.ndarray:
    """Smooth noise of unit deviation, correlated over about `wide` by `high` pixels, float [192, 192]."""
    spectrum = np.fft.rfft2(rng.normal(size=(SHEET, SHEET)))
    fy, fx = np.fft.fftfreq(SHEET)[:, None], np.fft.rfftfreq(SHEET)[None]
    smooth = np.fft.irfft2(spectrum * np.exp(-2 * ((np.pi * fx * wide / 2) ** 2 + (np.pi * fy * high / 2) ** 2)))
    return (smooth / smooth.std()).astype(np.float32)


def _tinted(rgb: tuple[int, int, int], light: np.ndarray) -> np.ndarray:
    return np.array(rgb, dtype=np.float32) + np.asarray(light, dtype=np.float32)[..., None]
