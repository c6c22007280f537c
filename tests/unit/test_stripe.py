"""Stripes in images: how exact, how honest about it, and what is refused. Needs numba."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate.errors import StateError
from foveate.messages import Frame, MirrorState, Stamp
from foveate_calibration.stripes import noise as stripe_noise
from foveate_nodes.reconstruction.messages import Stripe as Found
from foveate_nodes.reconstruction.stripe import Stripe

pytest.importorskip("numba")

READ, ELECTRONS, FWHM = 2.0, 39.2, 6.0  # grey levels; a grey level of 10,000 electrons in 8 bits; px


@dataclass(frozen=True)
class Line:
    """x = x0 + slope v + curve v^2 with v the rows from the middle."""

    x0: float
    slope: float = 0.0
    curve: float = 0.0

    def off(self, found: Found) -> NDArray[np.float64]:
        """Distances (N) of points from the line, across it."""
        v = found.point_px[:, 1] - (found.height - 1) / 2
        lean = self.slope + 2 * self.curve * v
        return (found.point_px[:, 0] - (self.x0 + self.slope * v + self.curve * v * v)) / np.hypot(1, lean)

    def profile(self, height: int, width: int, fwhm: float = FWHM) -> NDArray[np.float64]:
        """1 on the line, falling as a Gaussian (H x W)."""
        v = np.arange(height)[:, None] - (height - 1) / 2
        lean = self.slope + 2 * self.curve * v
        across = (np.arange(width) - (self.x0 + self.slope * v + self.curve * v * v)) / np.hypot(1, lean)
        return np.exp(-0.5 * (across * 2.3548 / fwhm) ** 2)


def speckle(random: np.random.Generator, height: int, width: int, contrast: float, grain: float) -> NDArray[np.float64]:
    """Intensities of mean 1, gamma-distributed; `grain`: half width of their correlation, px; 1 = each pixel anew."""
    total = np.zeros((height, width))
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    passed = np.exp(-2 * np.pi**2 * (grain / 2.3548) ** 2 * (x * x + y * y)) if grain > 1 else np.ones((height, x.size))
    looks = round(1 / contrast**2)
    for _ in range(2 * looks):  # each look: the squares of a real and an imaginary part
        part = np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) * passed, s=(height, width))
        total += (part / part.std()) ** 2
    return total / (2 * looks)


def picture(light: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.uint8]:
    """Grey levels with shot and read noise, clipped at 255."""
    seen = random.poisson(light * ELECTRONS) / ELECTRONS + random.normal(0, READ, light.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def frame(image: NDArray[np.uint8], encoding: str = "Mono8") -> Frame:
    state = MirrorState(Stamp(5), np.zeros(2), False, "readback")
    return Frame(Stamp(5, 1000), image, encoding, 9, mirror=state)


def node(**parameters: object) -> Stripe:
    made = Stripe(read_noise=READ, electrons=ELECTRONS, **parameters)  # type: ignore[arg-type]
    made.open()
    return made


STEGER = node()


def lit(
    line: Line, peak: float = 130.0, contrast: float = 0.0, grain: float = 1.0, seed: int = 1, height: int = 1000,
    width: int = 160,
) -> NDArray[np.uint8]:  # fmt: skip
    random = np.random.default_rng(seed)
    light = peak * line.profile(height, width)
    if contrast:
        light *= speckle(random, height, width, contrast, grain)
    return picture(8.0 + light, random)


# Deviations that another program's simulation of such stripes gave (px): Steger with a sigma of 3.5.
@pytest.mark.parametrize(
    ("contrast", "grain", "expected"),
    [(0.0, 1, 0.007), (0.25, 1, 0.065), (0.25, 2, 0.12), (0.25, 4, 0.20), (1.0, 1, 0.24), (1.0, 2, 0.43)],
)
def test_speckle_decides_how_exact_a_stripe_is(contrast: float, grain: float, expected: float) -> None:
    line = Line(80.3, 0.04)
    found = STEGER.step(frame(lit(line, {0.0: 200.0, 1.0: 40.0}.get(contrast, 130.0), contrast, grain)))
    off = line.off(found)
    assert len(off) > 950  # of 1000 rows; 9 at each end are left out
    assert off.std() == pytest.approx(expected, rel=0.3) and abs(off.mean()) < 0.15 * expected + 0.02


@pytest.mark.parametrize("peak", [30.0, 130.0])
@pytest.mark.parametrize(("contrast", "grain"), [(0.0, 1), (0.25, 1), (0.25, 2), (0.25, 4), (0.5, 2)])
def test_points_know_how_wrong_they_are(peak: float, contrast: float, grain: float) -> None:
    line = Line(80.4, -0.06)
    peak = min(peak, 90.0) if contrast >= 0.5 else peak  # its brightest grains stay below 255
    found = STEGER.step(frame(lit(line, peak, contrast, grain, seed=2)))
    known = node(speckle=contrast, grain=max(grain, 0.94)).step(frame(lit(line, peak, contrast, grain, seed=2)))
    for points in (found, known):
        assert 0.8 < (line.off(points) / points.sigma_px).std() < 1.3
        assert found.saturated.mean() < 0.02


@pytest.mark.parametrize(("contrast", "grain", "expected"), [(0.0, 1, 0.050), (0.25, 1, 0.21), (0.25, 2, 0.27)])
def test_the_centre_of_gravity_is_less_exact_and_knows_it(contrast: float, grain: float, expected: float) -> None:
    line = Line(80.3, 0.04)
    found = node(method="centroid").step(frame(lit(line, 130.0, contrast, grain)))
    v = found.point_px[:, 1] - 499.5
    off = found.point_px[:, 0] - (line.x0 + line.slope * v)  # along its row
    assert len(off) > 950 and 0.5 * expected < off.std() < 1.4 * expected
    assert 0.8 < (off / found.sigma_px).std() < 1.3


@settings(max_examples=20, deadline=None)
@example(70.5, 0.0, 0.0)  # between two pixels
@given(st.floats(70, 90), st.floats(-0.6, 0.6), st.floats(-3e-4, 3e-4))
def test_lines_that_lean_and_bend_are_found_where_they_are(x0: float, slope: float, curve: float) -> None:
    line = Line(x0, slope, curve)
    light = 8.0 + 150.0 * line.profile(120, 160)
    found = STEGER.step(frame(np.rint(light).astype(np.uint8)))
    assert len(found.point_px) > 95
    assert np.abs(line.off(found)).max() < 0.03
    v = found.point_px[:, 1] - 59.5
    lean = slope + 2 * curve * v
    normal = np.column_stack([np.ones_like(v), -lean]) / np.hypot(1, lean)[:, None]
    assert np.abs(found.normal_px - normal).max() < 0.02


def test_the_gate_loses_nothing() -> None:
    image = lit(Line(80.0, 0.2), 60.0, 0.25, 2, seed=4, height=400)
    gated, every = STEGER.step(frame(image)), node(gate=False).step(frame(image))
    assert len(gated.point_px) > 350
    assert np.array_equal(gated.point_px, every.point_px) and np.array_equal(gated.sigma_px, every.sigma_px)


def test_a_board_without_light_has_no_stripe() -> None:
    squares = np.kron(np.indices((5, 6)).sum(0) % 2, np.ones((40, 40)))
    image = picture(4.0 + 41.0 * squares, np.random.default_rng(5))
    assert len(STEGER.step(frame(image)).point_px) == 0


def test_a_stripe_over_a_board_is_found_on_dark_and_bright_squares() -> None:
    random, line = np.random.default_rng(6), Line(105.2, 0.05)
    albedo = 0.08 + 0.77 * np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((70, 70)))
    found = STEGER.step(frame(picture(albedo * (50.0 + 200.0 * line.profile(280, 280)), random)))
    off = line.off(found)
    rows = found.point_px[:, 1]
    inside = np.abs((rows + 35) % 70 - 35) > 14  # 4 sigma from an edge between squares
    assert inside.sum() > 0.5 * 280 and np.abs(off[inside]).max() < 0.4
    on_dark = albedo[np.rint(rows).astype(int), 105] < 0.5
    assert on_dark[inside].any() and found.sigma_px[on_dark].mean() > 3 * found.sigma_px[~on_dark].mean()


def test_of_two_lines_the_brighter_one_counts_and_like_ones_are_refused() -> None:
    random = np.random.default_rng(7)
    one, other = Line(50.0), Line(110.0)
    clear = picture(8 + 150 * one.profile(200, 160) + 80 * other.profile(200, 160), random)
    assert np.abs(one.off(STEGER.step(frame(clear)))).max() < 0.1
    alike = picture(8 + 150 * one.profile(200, 160) + 140 * other.profile(200, 160), random)
    assert len(STEGER.step(frame(alike)).point_px) < 10
    assert len(node(method="centroid").step(frame(alike)).point_px) < 10


def test_points_without_neighbours_go() -> None:
    image = np.full((200, 160), 8, np.uint8)
    image[100:103, 60:66] = 200  # a glint
    assert len(STEGER.step(frame(image)).point_px) <= 8  # as large as its own blur
    line = Line(80.0)
    light = 150 * line.profile(200, 160)
    light[60:140] = 0.0
    light[100, 20:26] = 250.0  # one row's glint far away
    found = STEGER.step(frame(picture(8 + light, np.random.default_rng(8))))
    assert np.abs(line.off(found)).max() < 0.2 or np.abs(found.point_px[:, 0] - 23).min() < 3


def test_a_clipped_stripe_is_flagged_and_its_middle_is_still_used() -> None:
    line = Line(80.3, 0.03)
    for peak in (600.0, 3000.0):  # plateaus of 8 and 11 pixels
        found = STEGER.step(frame(lit(line, peak, 0.25, 2, seed=9)))
        clear = STEGER.step(frame(lit(line, 130.0, 0.25, 2, seed=9)))
        assert found.saturated.mean() > 0.98 and clear.saturated.mean() < 0.01
        assert found.sigma_px.mean() > 1.5 * clear.sigma_px.mean()
        assert len(found.point_px) > 950 and np.abs(line.off(found)).max() < 0.5
        assert (line.off(found) / found.sigma_px).std() < 1.0


def test_a_stripe_along_the_columns_is_the_same_turned() -> None:
    image = lit(Line(80.3, 0.04), contrast=0.25, grain=2, height=300)
    upright = STEGER.step(frame(image))
    lying = node(along="columns").step(frame(np.ascontiguousarray(image.T)))
    assert np.array_equal(lying.point_px, upright.point_px[:, ::-1])
    assert np.array_equal(lying.normal_px, upright.normal_px[:, ::-1])
    assert (lying.width, lying.height) == (300, 160)


def test_colour_frames_are_seen_in_one_channel() -> None:
    plane = lit(Line(80.3), height=200)
    image = np.zeros((200, 160, 3), np.uint8)
    image[:, :, 1] = plane
    green = node(channel="green").step(frame(image, "BGR8"))
    assert np.array_equal(green.point_px, STEGER.step(frame(plane)).point_px)
    assert len(node(channel="red").step(frame(image, "BGR8")).point_px) == 0
    gray = node().step(frame(image, "BGR8"))
    assert np.median(gray.peak) == pytest.approx(0.587 * np.median(green.peak), rel=0.02)
    with pytest.raises(StateError, match="BayerRG8"):
        STEGER.step(frame(plane, "BayerRG8"))


@pytest.mark.parametrize("method", ["steger", "centroid"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (40, 12), (64, 200)])
def test_images_without_a_stripe_give_no_points(method: str, shape: tuple[int, int]) -> None:
    found = node(method=method).step(frame(np.full(shape, 20, np.uint8)))
    assert found.point_px.shape == (0, 2) and found.sigma_px.shape == (0,) and found.normal_px.shape == (0, 2)
    assert (found.width, found.height, found.seq, found.stamp.t_ns) == (shape[1], shape[0], 9, 5)
    assert found.mirror is not None


def test_a_row_answers_the_same_however_often_it_is_asked() -> None:
    image = lit(Line(80.3), contrast=0.25, grain=2, height=200)
    first, again = node().step(frame(image)), node().step(frame(image))
    assert np.array_equal(first.point_px, again.point_px) and np.array_equal(first.sigma_px, again.sigma_px)


@pytest.mark.parametrize(("contrast", "grain"), [(0.25, 1), (0.25, 3), (0.5, 2)])
def test_speckle_is_told_from_the_light_along_a_stripe(contrast: float, grain: float) -> None:
    random = np.random.default_rng(10)
    ridge = 100 * speckle(random, 1500, 8, contrast, grain)[:, 4]
    rows = np.arange(1500)
    found = stripe_noise.speckle_of(rows, ridge, np.full(1500, 100.0), np.full(1500, 0.5))
    assert found is not None
    told, size = found
    assert told == pytest.approx(contrast, rel=0.15) and size == pytest.approx(grain, rel=0.25)
    still = stripe_noise.speckle_of(
        rows, 100 + random.normal(0, 2, 1500), np.full(1500, 100.0), np.full(1500, 2.0)
    )  # fmt: skip
    assert still is not None and still[0] < 0.01
    assert stripe_noise.speckle_of(rows[:9], ridge[:9], np.full(9, 100.0), np.full(9, 0.5)) is None


def test_points_at_the_ends_of_a_piece_go_and_their_neighbours_are_less_sure() -> None:
    line = Line(80.3, 0.2)
    light = 150.0 * line.profile(400, 160)
    light[150:170] = 0.0  # what is lit ends here, and goes on 20 rows later
    image = picture(8.0 + light, np.random.default_rng(11))
    known = {"speckle": 0.25, "grain": 2.0}
    found, whole = node(**known).step(frame(image)), node(trim=0, **known).step(frame(image))
    rows, every = np.rint(found.point_px[:, 1]).astype(int), np.rint(whole.point_px[:, 1]).astype(int)
    gone = sorted(set(every) - set(rows))
    assert len(gone) == 6 and all(145 <= row <= 152 or 167 <= row <= 174 for row in gone)
    assert rows[0] == every[0] and rows[-1] == every[-1]  # the image's edge is no end
    near, far = (rows >= 140) & (rows <= 180), (rows < 130) | (rows > 190)
    assert found.sigma_px[near].max() > 1.1 * found.sigma_px[far].max()
    assert np.abs(line.off(found)).max() < np.abs(line.off(whole)).max()


@pytest.mark.parametrize("floor", [0.0, 25.0])
def test_a_stripe_that_is_cut_lengthwise_has_no_points_there(floor: float) -> None:
    """For 120 rows half of the stripe is in shadow, beside the same ground or a brighter one."""
    line, random = Line(80.3), np.random.default_rng(12)
    light = 130.0 * line.profile(400, 160) * speckle(random, 400, 160, 0.25, 2.0)
    cut = np.zeros((400, 160), bool)
    cut[140:260, :80] = True
    image = picture(8.0 + np.where(cut, 0.0, light + floor), random)
    found, whole = STEGER.step(frame(image)), node(skew=9.0, shortest=1).step(frame(image))
    wrong = np.abs(line.off(whole)) > 0.6
    assert wrong.sum() > 80 and (np.abs(line.off(found)) > 0.6).sum() < 0.15 * wrong.sum()
    rows = found.point_px[:, 1]
    assert not ((rows > 155) & (rows < 245)).any()
    assert (rows < 125).sum() > 100 and (rows > 275).sum() > 100


def test_a_stripe_cut_from_end_to_end_is_no_stripe_and_a_dot_is_none_either() -> None:
    line, random = Line(80.3), np.random.default_rng(13)
    light = 130.0 * line.profile(400, 160) * speckle(random, 400, 160, 0.25, 2.0)
    light[:, :80] = 0.0
    image = frame(picture(8.0 + light, random))
    assert len(STEGER.step(image).point_px) < 0.1 * len(node(skew=9.0).step(image).point_px)
    dot = np.full((200, 160), 8, np.uint8)
    dot[100:109, 58:64] = 200
    assert len(node(skew=9.0, shortest=1).step(frame(dot)).point_px)
    assert not len(node(skew=9.0).step(frame(dot)).point_px)
