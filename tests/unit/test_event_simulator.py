"""The simulated event camera does what physics says: ramps, leak, noise, refractory time, saturation, moving edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.clock import VirtualClock
from foveate.errors import OutOfRange, StateError, Timeout
from foveate.messages import Events
from foveate_drivers.events.pixel_model import LOG_OF_GREY, Fired, PixelModel
from foveate_drivers.events.readout import Readout
from foveate_drivers.events.sim import SimEventCamera
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world.base import World
from foveate_drivers.world.scene import Texture, Truth

MS = 1_000_000
QUIET = {"leak_hz": 0.0, "shot_hz": 0.0, "refractory_ns": 0, "bandwidth_hz": 0.0}


def flat(grey: int, height: int = 24, width: int = 32) -> np.ndarray:
    return np.full((height, width), grey, np.uint8)


def count(fired: Fired, polarity: int, pixels: int = 24 * 32) -> np.ndarray:
    return np.bincount(fired.pixel[fired.polarity == polarity], minlength=pixels)


# --- pixels ---------------------------------------------------------------------------------------------------------


def test_a_ramp_makes_as_many_events_as_thresholds_fit_into_it_at_every_pixel() -> None:
    model = PixelModel(32, 24, **QUIET)
    model.start(flat(30), 0)
    fired = model.step(flat(200), 10 * MS)
    change = math.log(200 / 30)
    assert np.array_equal(count(fired, 1), np.floor(change / model.on.ravel().astype(float)).astype(int))
    assert not count(fired, 0).any()
    fallen = model.step(flat(30), 20 * MS)
    rest = change - count(fired, 1) * model.on.ravel()  # what was left above the last event
    assert np.abs(count(fallen, 0) - np.floor((change - rest) / model.off.ravel())).max() <= 1


def test_events_of_a_ramp_are_as_far_apart_as_the_threshold_takes() -> None:
    model = PixelModel(32, 24, threshold=0.25, threshold_sigma=0.0, **QUIET)
    model.start(flat(30), 0)
    fired = model.step(flat(200), 10 * MS)
    one = fired.t_ns[fired.pixel == 100]
    assert np.allclose(one, np.arange(1, 8) * 0.25 / math.log(200 / 30) * 10 * MS, atol=2)


def test_thresholds_differ_between_pixels_as_told_and_never_below_a_hundredth() -> None:
    model = PixelModel(200, 200, threshold=0.2, threshold_sigma=0.03)
    for threshold in (model.on, model.off):
        assert abs(threshold.mean() - 0.2) < 0.001 and abs(threshold.std() - 0.03) < 0.001
    assert abs(np.corrcoef(model.on.ravel(), model.off.ravel())[0, 1]) < 0.03
    assert PixelModel(200, 200, threshold=0.02, threshold_sigma=0.5).on.min() == np.float32(0.01)


def test_on_and_off_are_symmetric_over_a_full_cycle() -> None:
    model = PixelModel(32, 24, threshold_sigma=0.0, **QUIET)
    model.start(flat(100), 0)
    on = off = 0
    for i in range(1, 401):
        fired = model.step(flat(round(100 + 80 * math.sin(2 * math.pi * i / 100))), i * MS)
        on, off = on + int(fired.polarity.sum()), off + int((1 - fired.polarity).sum())
    assert on > 10_000 and abs(on - off) <= 2 * 24 * 32  # what is open at the end of a cycle, a threshold either side


def test_the_logarithm_is_linear_near_black_and_has_no_kink() -> None:
    assert np.allclose(np.diff(LOG_OF_GREY[:20]), 1 / 20, atol=1e-6)
    assert np.allclose(LOG_OF_GREY[20:], np.log(np.arange(20, 256)), atol=1e-6)
    assert np.diff(LOG_OF_GREY).min() > 0 and np.diff(LOG_OF_GREY).max() <= 0.0501


@pytest.mark.parametrize("leak_hz", [2.0, 20.0])
def test_leak_makes_on_events_at_its_rate(leak_hz: float) -> None:
    model = PixelModel(64, 48, leak_hz=leak_hz, shot_hz=0.0, refractory_ns=0)
    image = flat(100, 48, 64)
    model.start(image, 0)
    fired = [model.step(image, i * 10 * MS) for i in range(1, 201)]
    rate = sum(len(f.t_ns) for f in fired) / (64 * 48 * 2.0)
    spread = math.exp((0.1 * math.log(10)) ** 2 / 2)  # mean of a log-normal with 0.1 decades
    assert abs(rate / (leak_hz * spread) - 1) < 0.03
    assert all(f.polarity.all() for f in fired)


def test_shot_noise_is_strong_in_the_dark_and_weak_in_the_light() -> None:
    rates = {}
    for grey in (0, 20, 255):
        model = PixelModel(64, 48, shot_hz=50.0, leak_hz=0.0, refractory_ns=0)
        image = flat(grey, 48, 64)
        model.start(image, 0)
        fired = [model.step(image, i * 10 * MS) for i in range(1, 101)]
        rates[grey] = sum(len(f.t_ns) for f in fired) / (64 * 48)
        on = np.concatenate([f.polarity for f in fired]).mean()
        assert abs(on - 0.5) < 0.02
    assert abs(rates[0] / 50 - 1) < 0.03
    assert abs(rates[20] / 25 - 1) < 0.03
    assert abs(rates[255] / (50 * 20 / 275) - 1) < 0.05


def test_no_pixel_fires_twice_within_its_refractory_time() -> None:
    model = PixelModel(32, 24, refractory_ns=2 * MS, shot_hz=200.0, leak_hz=50.0)
    rng = np.random.default_rng(3)
    model.start(flat(100), 0)
    fired = [model.step(rng.integers(0, 256, (24, 32)).astype(np.uint8), i * MS) for i in range(1, 101)]
    t, pixel = (np.concatenate([getattr(f, name) for f in fired]) for name in ("t_ns", "pixel"))
    order = np.lexsort((t, pixel))
    gaps = np.diff(t[order])[np.diff(pixel[order]) == 0]
    assert len(gaps) > 10_000 and gaps.min() >= 2 * MS
    assert gaps.min() < 2.1 * MS  # the bound is reached: it is what holds the pixels back


def test_a_low_pass_delays_more_in_the_dark() -> None:
    delays = []
    for low, high in ((20, 30), (150, 225)):
        model = PixelModel(32, 24, threshold_sigma=0.0, leak_hz=0.0, shot_hz=0.0, bandwidth_hz=200.0)
        model.start(flat(low), 0)
        fired = [model.step(flat(high), i * MS // 20) for i in range(1, 1000)]
        assert sum(len(f.t_ns) for f in fired) == 2 * 24 * 32  # ln 1.5 = 0.405: the change arrives in full
        delays.append(max(int(f.t_ns[-1]) for f in fired if len(f.t_ns)))
    bandwidth = [200 * (grey + 20) / 275 for grey in (30, 225)]
    expected = [math.log(0.4055 / (0.4055 - 0.4)) / (2 * math.pi * b) * 1e9 for b in bandwidth]
    assert np.allclose(delays, expected, rtol=0.03)


@pytest.mark.parametrize(("last_grey", "shot_hz"), [(15, 0.0), (1, 40.0)])
def test_how_a_steady_ramp_or_a_still_image_is_cut_into_steps_does_not_matter(last_grey: int, shot_hz: float) -> None:
    """Near black the logarithm is linear: the same events, to a microsecond or two."""
    runs = []
    for parts in (1, 7):
        model = PixelModel(32, 24, leak_hz=30.0, shot_hz=shot_hz, refractory_ns=0, bandwidth_hz=0.0)
        model.start(flat(1), 0)
        grey = [1 + (last_grey - 1) * i / parts for i in range(1, parts + 1)]
        fired = [model.step(flat(round(g)), round(7 * MS * i / parts)) for i, g in enumerate(grey, 1)]
        runs.append(np.concatenate([f.t_ns for f in fired if len(f.t_ns)]))
    assert len(runs[0]) == len(runs[1]) > 300
    assert np.abs(runs[0] - runs[1]).max() < 2000


# --- readout --------------------------------------------------------------------------------------------------------


def slow_readout(t_ns: np.ndarray, slot_ns: float, capacity: int) -> list[int | None]:
    """The same arbiter, slot by slot and event by event: when each leaves, None where it is lost."""
    queue: list[int] = []
    leaves: list[int | None] = [None] * len(t_ns)
    slot = int((t_ns[0] - 1) // slot_ns)
    arrivals = {i: int((t - 1) // slot_ns) for i, t in enumerate(t_ns)}
    left = len(t_ns)
    while left or queue:
        for i, at in arrivals.items():
            if at == slot:
                left -= 1
                if len(queue) < capacity:
                    queue.append(i)
        if queue:
            leaves[queue.pop(0)] = math.ceil((slot + 1) * slot_ns)
        slot += 1
    return leaves


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=80), st.integers(1, 12), st.sampled_from([7e6, 50e6, 333e6]))
def test_the_readout_is_that_of_a_slot_by_slot_arbiter(times: list[int], capacity: int, rate: float) -> None:
    t_ns = np.sort(np.array(times, np.int64))
    expected = slow_readout(t_ns, 1e9 / rate, capacity)
    fired = Fired(t_ns, np.arange(len(t_ns)), np.zeros(len(t_ns), np.uint8))
    whole, cut = Readout(rate, capacity), Readout(rate, capacity)
    whole.add(fired)
    for part in np.array_split(np.arange(len(t_ns)), 3):
        cut.add(Fired(t_ns[part], fired.pixel[part], fired.polarity[part]))
    for readout in (whole, cut) if len(set(t_ns)) == len(t_ns) else (whole,):
        got = readout.take(10**9)
        assert readout.made == readout.given + readout.lost + readout.waiting and not readout.waiting
        if readout is whole:
            kept = [(t, i) for i, t in enumerate(expected) if t is not None]
            assert list(zip(got.t_ns.tolist(), got.pixel.tolist(), strict=True)) == kept
        assert (np.diff(got.t_ns) >= 0).all()


def test_an_overloaded_readout_gives_its_rate_and_counts_the_rest() -> None:
    readout = Readout(1e6, 100)
    t_ns = np.sort(np.random.default_rng(1).integers(1, 10 * MS, 50_000))
    readout.add(Fired(t_ns, np.zeros(50_000, np.int64), np.zeros(50_000, np.uint8)))
    got = readout.take(10 * MS)
    assert abs(len(got.t_ns) - 10_000) <= 2  # 1 Mevent/s for 10 ms
    assert readout.made == 50_000 == readout.given + readout.lost + readout.waiting
    assert np.diff(got.t_ns).min() >= 1000


# --- the camera in the world ----------------------------------------------------------------------------------------


class Stripes:
    """Vertical stripes of two grey levels, 0.1 m wide, on a plane 10 m away."""

    names = ("thing",)
    width_m = height_m = 20.0

    def __init__(self, dark: int = 60, light: int = 180) -> None:
        image = np.where((np.arange(2000) // 10 % 2)[None, :], light, dark).astype(np.uint8).repeat(200, axis=0)
        self._texture = Texture(np.ascontiguousarray(np.repeat(image, 10, axis=0)), 20.0)

    def truth(self, t_s: float) -> Truth:
        return Truth(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 2)), np.zeros((0, 2)))

    def render(self, image_from_plane: np.ndarray, width: int, height: int, color: bool, t_s: float) -> np.ndarray:
        return self._texture.render(image_from_plane, width, height)


CLEAN = {"leak": 0.0, "shot_noise": 0.0, "refractory": 0.0, "threshold_sigma": 0.0, "rate_limit": 1e9, "queue": 10**7}


def rig(scene: Stripes | None = None, **options: object) -> tuple[SimEventCamera, SimMirror, VirtualClock]:
    world, clock = World(range=10.0), VirtualClock()
    world._scene = scene or Stripes()  # type: ignore[assignment]
    world.open(clock)
    mirror = SimMirror(deadline=0, repeatability=0)
    mirror.uri = "sim:galvo"
    mirror.open(clock)
    camera = SimEventCamera(address="x", world=world, through=mirror, width=80, height=60, field=0.1, **options)  # type: ignore[arg-type]
    camera.uri = "sim-events:x"
    camera.open(clock)
    return camera, mirror, clock


def take(camera: SimEventCamera, clock: VirtualClock, packets: int) -> list[Events]:
    got = []
    for _ in range(packets):
        clock.advance(camera.due_ns())
        got.append(camera.read(0.0))
    return got


def stream(packets: list[Events]) -> tuple[np.ndarray, ...]:
    return tuple(np.concatenate([getattr(p, name) for p in packets]) for name in ("t_ns", "x", "y", "polarity"))


def test_a_still_view_is_silent_and_packets_tell_that_it_was_watched() -> None:
    camera, _, clock = rig(**CLEAN)
    for packet in take(camera, clock, 5):
        assert len(packet.t_ns) == 0 and packet.stamp.exposure_ns == 10 * MS and packet.lost_before == 0


def test_edges_move_with_the_mirror_and_come_back_with_the_other_polarity() -> None:
    camera, mirror, clock = rig(**CLEAN)
    take(camera, clock, 1)
    mirror.goto(np.array([0.004, 0.0]))  # 8 mrad of view: 6.4 px; a stripe has 8
    there = stream(take(camera, clock, 3))
    mirror.goto(np.array([0.0, 0.0]))
    back = stream(take(camera, clock, 3))
    assert len(there[0]) > 1000 and abs(len(there[0]) - len(back[0])) < 0.02 * len(there[0])
    for t_ns, x, y, _ in (there, back):
        assert (np.diff(t_ns) >= 0).all() and x.max() < 80 and y.max() < 60
    here = [np.zeros((60, 80), int), np.zeros((60, 80), int)]
    for net, (_, x, y, polarity) in zip(here, (there, back), strict=True):
        np.add.at(net, (y, x), 2 * polarity.astype(int) - 1)
    assert np.abs(here[0]).max() >= 4  # ln(180 / 60) = 1.1 at threshold 0.2: five
    assert np.abs(here[0] + here[1]).max() <= 1  # what rose there fell back, but for a part of a threshold
    assert take(camera, clock, 1)[0].t_ns.size == 0


def test_more_contrast_makes_more_events_as_its_logarithm_says() -> None:
    counts = {}
    for dark, light in ((90, 110), (60, 130), (30, 220)):
        camera, mirror, clock = rig(Stripes(dark, light), **CLEAN)
        mirror.goto(np.array([0.004, 0.0]))
        counts[math.log(light / dark)] = len(stream(take(camera, clock, 3))[0])
    low, middle, high = (counts[key] / max(math.floor(key / 0.2), 1) for key in sorted(counts))
    assert counts[math.log(110 / 90)] > 0
    assert abs(middle / high - 1) < 0.15 and abs(low / high - 1) < 0.3


def test_no_event_is_lost_or_made_twice_when_the_readout_saturates() -> None:
    options = CLEAN | {"rate_limit": 2e5, "queue": 500}
    camera, mirror, clock = rig(**options)
    mirror.goto(np.array([0.02, 0.0]))
    packets = take(camera, clock, 10)
    counters = camera.health().counters
    given = sum(len(p.t_ns) for p in packets)
    assert counters["received"] == given and counters["lost"] == sum(p.lost_before for p in packets) > 0
    assert counters["made"] == given + counters["lost"] + counters["waiting"] and counters["waiting"] == 0
    assert max(len(p.t_ns) for p in packets) <= 2001  # 2e5/s for 10 ms
    free, mirror, clock = rig(**CLEAN)
    mirror.goto(np.array([0.02, 0.0]))
    assert counters["made"] == sum(len(p.t_ns) for p in take(free, clock, 10))


def test_the_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    runs = []
    for seed in (1, 1, 2):
        camera, mirror, clock = rig(seed=seed)
        mirror.goto(np.array([0.01, 0.002]))
        runs.append(stream(take(camera, clock, 4)))
    assert all(np.array_equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not np.array_equal(runs[0][0], runs[2][0])


@pytest.mark.parametrize("packet", [0.01, 0.02, 0.05])
def test_packets_cut_one_stream(packet: float) -> None:
    runs = []
    for length in (packet, 0.1):
        camera, mirror, clock = rig(packet=length)
        mirror.goto(np.array([0.01, 0.0]), not_before_ns=33 * MS)
        runs.append(stream(take(camera, clock, round(0.1 / length))))
    assert len(runs[0][0]) > 5000
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))


def test_odd_packets_move_few_events() -> None:
    runs = []
    for length, packets in ((0.007, 15), (0.105, 1)):
        camera, mirror, clock = rig(packet=length)
        mirror.goto(np.array([0.01, 0.0]), not_before_ns=33 * MS)
        runs.append(stream(take(camera, clock, packets)))
    assert abs(len(runs[0][0]) / len(runs[1][0]) - 1) < 0.03


def test_a_movement_there_and_back_within_a_packet_is_seen() -> None:
    camera, mirror, clock = rig(**(CLEAN | {"packet": 0.05}))
    mirror.stream([0.012, 0.015], np.array([[0.004, 0.0], [0.0, 0.0]]))
    assert len(take(camera, clock, 1)[0].t_ns) > 1000


def test_thresholds_follow_the_biases_and_both_polarities_apart() -> None:
    sums = {}
    for on, off in ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0)):
        camera, mirror, clock = rig(Stripes(30, 220), **CLEAN)
        assert camera.set("bias_diff_on", on) == on and camera.set("bias_diff_off", off) == off
        mirror.goto(np.array([0.02, 0.0]))
        polarity = stream(take(camera, clock, 4))[3]
        sums[on, off] = (int(polarity.sum()), int((1 - polarity).sum()))
    assert sums[2.0, 1.0][0] < 0.65 * sums[1.0, 1.0][0] and sums[2.0, 1.0][1] > 0.9 * sums[1.0, 1.0][1]
    assert sums[1.0, 2.0][1] < 0.65 * sums[1.0, 1.0][1] and sums[1.0, 2.0][0] > 0.9 * sums[1.0, 1.0][0]


def test_a_late_reader_is_told_what_it_lost_and_goes_on() -> None:
    camera, mirror, clock = rig(buffers=3)
    mirror.goto(np.array([0.02, 0.0]))
    clock.advance(400 * MS)
    first = camera.read(0.0)
    assert first.lost_before > 0 and first.stamp.t_ns == 375 * MS
    packets = [first, *take(camera, clock, 4)]
    assert all(b.stamp.t_ns - a.stamp.t_ns == 10 * MS for a, b in itertools.pairwise(packets))


def test_steps_that_are_too_coarse_are_counted() -> None:
    camera, mirror, clock = rig(steps=2, **CLEAN)
    take(camera, clock, 2)
    assert camera.health().counters["coarse"] == 0
    mirror.goto(np.array([0.1, 0.0]))
    take(camera, clock, 2)
    assert camera.health().counters["coarse"] > 0


def test_mistakes_are_refused() -> None:
    camera, _, clock = rig()
    with pytest.raises(Timeout):
        camera.read(0.0)
    with pytest.raises(OutOfRange):
        camera.set("rate_limit", math.nan)
    camera.close()
    camera.close()
    with pytest.raises(StateError):
        camera.read(0.0)
    with pytest.raises(StateError):
        camera.get("rate_limit")
    camera.open(clock)
    take(camera, clock, 1)
