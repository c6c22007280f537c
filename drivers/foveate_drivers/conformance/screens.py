"""What every screen must do: show the newest, refuse what is no picture, and never hold up who shows."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np

from foveate.errors import NotSupported, StateError
from foveate.messages import Frame, Stamp
from foveate_drivers.conformance.suite import Bench, expect, expect_error
from foveate_drivers.screens.base import MOST_PICTURES, Screen


def picture(level: int, encoding: str = "BGR8", size: tuple[int, int] = (24, 32)) -> Frame:
    """An even picture."""
    shape = size if encoding == "Mono8" else (*size, 3)
    return Frame(Stamp(level), np.full(shape, level, np.uint8), encoding, level)


def _shows(screen: Screen, name: str, level: int, when: str) -> None:
    found = screen.newest(name)
    expect(found is not None and found.seq == level, f"{when}: shown is {found and found.seq}, not {level}")


def check_shows_what_it_is_given(bench: Bench[Screen]) -> None:
    """A picture that was shown is there, grey or in colour, of any size."""
    with bench.open() as screen:
        expect(screen.newest("view") is None, "a screen just opened shows something")
        for level, (encoding, size) in enumerate(
            (("BGR8", (24, 32)), ("Mono8", (24, 32)), ("BGR8", (1, 1)), ("BGR8", (480, 640))), 1
        ):
            screen.show("view", picture(level, encoding, size))
            _shows(screen, "view", level, f"{encoding} of {size}")


def check_the_newest_is_shown(bench: Bench[Screen]) -> None:
    """Of many pictures the last stays, though nobody looked at the others."""
    with bench.open() as screen:
        for level in range(200):
            screen.show("view", picture(level))
        _shows(screen, "view", 199, "after 200 pictures")


def check_names_stand_side_by_side(bench: Bench[Screen]) -> None:
    """Pictures of different names do not replace each other; names are told in the order that they came."""
    with bench.open() as screen:
        for level, name in enumerate(("wide", "top_view.frame", "a-1")):
            screen.show(name, picture(level))
        screen.show("wide", picture(9))
        _shows(screen, "wide", 9, "the first name")
        _shows(screen, "a-1", 2, "the last name")
        expect(screen.names() == ["wide", "top_view.frame", "a-1"], f"its names are {screen.names()}")


def check_bad_names_are_refused(bench: Bench[Screen]) -> None:
    """A name that is empty, long, or holds what no address may is refused with NotSupported."""
    with bench.open() as screen:
        for name in ("", "x" * 65, "a/b", "a b", "../x", "<b>", "é", "a\n"):
            expect_error(NotSupported, partial(screen.show, name, picture(1)), f"the name {name[:20]!r}")
        expect(screen.names() == [], f"refused names are there: {screen.names()}")


def check_memory_is_bounded(bench: Bench[Screen]) -> None:
    """It takes 16 names; another is refused, and those it has go on."""
    with bench.open() as screen:
        for number in range(MOST_PICTURES):
            screen.show(f"n{number}", picture(number))
        expect_error(NotSupported, partial(screen.show, "one_more", picture(1)), "a seventeenth name")
        screen.show("n0", picture(77))
        _shows(screen, "n0", 77, "after the refused name")


def check_what_is_no_picture_is_refused(bench: Bench[Screen]) -> None:
    """Another encoding, a shape that is not its encoding's, or no pixels raise NotSupported; the old one stays."""
    bad = (
        Frame(Stamp(0), np.zeros((4, 4, 3), np.uint8), "RGB8", 0),
        Frame(Stamp(0), np.zeros((4, 4, 3), np.uint8), "Mono8", 0),
        Frame(Stamp(0), np.zeros((4, 4), np.uint8), "BGR8", 0),
        Frame(Stamp(0), np.zeros((4, 4, 4), np.uint8), "BGR8", 0),
        Frame(Stamp(0), np.zeros((0, 4, 3), np.uint8), "BGR8", 0),
    )
    with bench.open() as screen:
        screen.show("view", picture(5))
        for frame in bad:
            what = f"{frame.encoding} of shape {frame.image.shape}"
            error = expect_error(NotSupported, partial(screen.show, "view", frame), what)
            expect(screen.uri in str(error), f"the error does not name the screen: {error}")
        _shows(screen, "view", 5, "after refused pictures")


def check_showing_needs_an_open_screen(bench: Bench[Screen]) -> None:
    """Before `open` and after `close`, `show` raises StateError."""
    screen = bench.make()
    expect_error(StateError, partial(screen.show, "view", picture(1)), "show before open")
    screen = bench.open()
    expect_error(StateError, partial(screen.open, bench.clock), "open twice")
    screen.close()
    expect_error(StateError, partial(screen.show, "view", picture(1)), "show after close")


def check_opened_again_it_is_empty(bench: Bench[Screen]) -> None:
    """Pictures of the run before are gone when it is opened again."""
    screen = bench.open()
    screen.show("view", picture(1))
    screen.close()
    screen.open(bench.clock)
    try:
        expect(screen.newest("view") is None and screen.names() == [], "it still shows the picture of before")
    finally:
        screen.close()


def check_pixels_stay_as_they_were_given(bench: Bench[Screen]) -> None:
    """What is shown has the pixels of the frame, which stays unchanged."""
    image = np.arange(24 * 32 * 3, dtype=np.int64).astype(np.uint8).reshape(24, 32, 3)
    with bench.open() as screen:
        screen.show("view", Frame(Stamp(1), image.copy(), "BGR8", 1))
        found = screen.newest("view")
        expect(found is not None and np.array_equal(found.image, image), "other pixels than the frame's are shown")


def check_several_threads_may_show(bench: Bench[Screen]) -> None:
    """Nodes of a graph show from threads of their own, and each name ends with its newest."""

    def shower(name: str) -> None:
        for level in range(100):
            screen.show(name, picture(level))

    with bench.open() as screen:
        threads = [threading.Thread(target=shower, args=(f"n{k}",)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for k in range(4):
            _shows(screen, f"n{k}", 99, "shown from its own thread")


def check_an_unknown_name_is_nothing(bench: Bench[Screen]) -> None:
    """Asked for a picture that was never shown, it says None and raises nothing, open or closed."""
    screen = bench.open()
    expect(screen.newest("never") is None, "a picture that was never shown is there")
    screen.close()
    expect(screen.newest("never") is None, "a picture that was never shown is there after close")
