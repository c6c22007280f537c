"""What stands in a simulated room, of boxes and spheres: shelves of books, desks, tables, chairs, parcels, pictures."""

from __future__ import annotations

import numpy as np

from foveate_drivers.world.room_plan import Cover, Plan, Spot


def shelf(plan: Plan, spot: Spot, wide: float = 1.0, high: float = 2.0, full: float = 0.85) -> None:
    """Against a wall behind it; `full`: the share of its boards with books, parcels or a ball on them."""
    rng, deep, thick = plan.rng, 0.32, 0.025
    body = plan.cover("wood", 0.9, plan.rng.uniform(0.7, 1.0))
    for side in (-1, 1):
        plan.box(spot, (side * (wide - thick) / 2, 0.0, 0.0), (thick, high, deep), body)
    plan.box(spot, (0.0, 0.0, deep / 2 - 0.006), (wide - 0.05, high, 0.01), plan.cover("wood", 1.1, 0.6))
    count = max(int(high / 0.36), 1)
    for level in range(count + 1):
        lift = 0.06 + level * (high - 0.1) / count
        plan.box(spot, (0.0, lift, 0.0), (wide - 2 * thick, thick, deep - 0.01), body)
        if level < count and rng.random() < full:
            space = (high - 0.1) / count - thick - 0.02
            _row(plan, spot, lift + thick, wide - 2 * thick - 0.02, deep, space)


def _row(plan: Plan, spot: Spot, lift: float, wide: float, deep: float, space: float) -> None:
    """What is on one board."""
    rng = plan.rng
    x = -wide / 2
    while x < wide / 2 - 0.06:
        choice = rng.random()
        if choice < 0.72:
            for _ in range(int(rng.integers(3, 10))):
                size = (rng.uniform(0.02, 0.055), rng.uniform(0.6, 0.97) * space, rng.uniform(0.15, 0.24))
                if x + size[0] > wide / 2:
                    return
                book = plan.cover("spine", None, plan.color(0.7, 1.0))
                plan.box(spot, (x + size[0] / 2, lift, -deep / 2 + 0.03 + size[2] / 2), size, book)
                x += size[0] + 0.002
        elif choice < 0.88:
            size = (rng.uniform(0.12, 0.3), rng.uniform(0.4, 0.9) * space, rng.uniform(0.15, 0.26))
            if x + size[0] < wide / 2:
                kind = "cardboard" if rng.random() < 0.6 else "poster"
                plan.box(spot, (x + size[0] / 2, lift, 0.0), size, plan.cover(kind))
            x += size[0] + 0.03
        else:
            radius = min(rng.uniform(0.05, 0.09), space / 2)
            if x + 2 * radius < wide / 2:
                plan.sphere(spot, (x + radius, lift, -0.03), radius, plan.cover("plain", 0.5, plan.color(), gloss=0.5))
            x += 2 * radius + 0.04
        x += rng.uniform(0.0, 0.09)


def table(plan: Plan, spot: Spot, wide: float = 1.5, deep: float = 0.8, high: float = 0.73) -> None:
    """A top on four legs."""
    body = plan.cover("wood", 1.0, plan.rng.uniform(0.7, 1.0))
    plan.box(spot, (0.0, high - 0.035, 0.0), (wide, 0.035, deep), body)
    leg = plan.cover("plain", 0.6, plan.color(0.03, 0.5))
    for x in (-1, 1):
        for z in (-1, 1):
            place = (x * (wide / 2 - 0.06), 0.0, z * (deep / 2 - 0.06))
            plan.box(spot, place, (0.05, high - 0.035, 0.05), leg)


def monitor(plan: Plan, spot: Spot, lift: float, dark: bool = False) -> None:
    """On a foot; `dark`: it is off, and black glass to the eye as to the infrared."""
    black = plan.cover("plain", 0.5, 0.05, gloss=0.15, returns=0.35)
    plan.box(spot, (0.0, lift, 0.02), (0.22, 0.012, 0.17), black)
    plan.box(spot, (0.0, lift + 0.012, 0.05), (0.05, 0.13, 0.03), black)
    glass = plan.cover("screen", None, 0.3, glow=0.0 if dark else 2.2, gloss=0.25, returns=0.05)
    if dark:
        glass = plan.cover("plain", 0.5, 0.03, gloss=0.4, returns=0.02)
    plan.box(spot, (0.0, lift + 0.11, 0.0), (0.56, 0.34, 0.035), black)
    plan.box(spot, (0.0, lift + 0.125, -0.0185), (0.53, 0.31, 0.002), glass)


def desk(plan: Plan, spot: Spot, dark: bool = False) -> None:
    """A table with a monitor or two and what lies about; the wall is behind it."""
    table(plan, spot, 1.6, 0.8, 0.73)
    for x in (-0.38, 0.3) if plan.rng.random() < 0.5 else (-0.1,):
        monitor(plan, spot.at(x, 0.22, float(plan.rng.uniform(-0.25, 0.25))), 0.73, dark)
    plan.box(spot.at(-0.05, -0.14, float(plan.rng.uniform(-0.1, 0.1))), (0, 0.73, 0), (0.44, 0.02, 0.15),
             plan.cover("plain", 0.5, 0.1), top=plan.cover("page", None, 0.45))  # fmt: skip
    clutter(plan, spot, 1.5, 0.7, 0.73, 11)


def clutter(plan: Plan, spot: Spot, wide: float, deep: float, lift: float, count: int) -> None:
    """Sheets, books, parcels, mugs, balls, spread over a surface."""
    rng = plan.rng
    for _ in range(count):
        there = spot.at(
            float(rng.uniform(-0.5, 0.5) * (wide - 0.2)), float(rng.uniform(-0.5, 0.5) * (deep - 0.2)),
            float(rng.uniform(-1.5, 1.5)),
        )  # fmt: skip
        choice = rng.random()
        if choice < 0.3:
            sheet = plan.cover("page")
            plan.box(there, (0, lift, 0), (0.21, 0.0015 * float(rng.integers(1, 12)), 0.297), sheet)
        elif choice < 0.55:
            high = lift
            for _ in range(int(rng.integers(1, 5))):
                size = (rng.uniform(0.13, 0.2), rng.uniform(0.015, 0.05), rng.uniform(0.19, 0.27))
                kind = ("spine", "poster", "picture")[int(rng.integers(0, 3))]
                plan.box(
                    there, (0, high, 0), size, plan.cover("spine"), top=plan.cover(kind), yaw_rad=rng.uniform(-0.2, 0.2)
                )
                high += size[1]
        elif choice < 0.8:
            size = (rng.uniform(0.06, 0.22), rng.uniform(0.05, 0.24), rng.uniform(0.06, 0.2))
            kind = ("cardboard", "poster", "spine", "checks")[int(rng.integers(0, 4))]
            plan.box(there, (0, lift, 0), size, plan.cover(kind))
        elif choice < 0.9:
            mug = plan.cover("poster", None, rng.uniform(0.5, 1.0), gloss=0.3)
            plan.box(there, (0, lift, 0), (0.075, 0.095, 0.075), mug)
        else:
            plan.sphere(
                there, (0, lift, 0), rng.uniform(0.035, 0.1), plan.cover("checks", 0.3, plan.color(0.4, 1.0), gloss=0.4)
            )


def chair(plan: Plan, spot: Spot) -> None:
    """Its back is behind it."""
    frame = plan.cover("plain", 0.6, plan.color(0.03, 0.6), gloss=0.1)
    seat = plan.cover("carpet", 0.35, plan.rng.uniform(0.5, 1.0))
    plan.box(spot, (0, 0.42, 0), (0.44, 0.06, 0.44), seat)
    plan.box(spot, (0, 0.55, 0.2), (0.42, 0.4, 0.04), seat)
    for x in (-0.19, 0.19):
        plan.box(spot, (x, 0, -0.19), (0.03, 0.42, 0.03), frame)
        plan.box(spot, (x, 0, 0.19), (0.03, 0.75, 0.03), frame)


def sofa(plan: Plan, spot: Spot, wide: float = 1.8) -> None:
    """Seat, back, two arms, cushions."""
    cloth = plan.cover("carpet", 0.4, plan.rng.uniform(0.5, 1.0))
    plan.box(spot, (0, 0.08, 0), (wide, 0.34, 0.8), cloth)
    plan.box(spot, (0, 0.42, 0.31), (wide, 0.42, 0.18), cloth)
    for x in (-1, 1):
        plan.box(spot, (x * (wide / 2 - 0.09), 0.42, -0.05), (0.18, 0.16, 0.7), cloth)
        pillow = plan.cover(("checks", "picture", "carpet")[int(plan.rng.integers(0, 3))], 0.45)
        plan.box(spot, (x * wide * 0.28, 0.45, 0.12), (0.42, 0.4, 0.12), pillow, yaw_rad=x * 0.2)


def cupboard(plan: Plan, spot: Spot, wide: float = 1.0, high: float = 1.9, shiny: bool = False) -> None:
    """Two doors with handles, things on top."""
    body = plan.cover("wood", 0.9, plan.rng.uniform(0.6, 1.0))
    door = plan.cover("plain", 0.6, plan.color(0.1, 0.8), gloss=0.6, returns=0.12) if shiny else body
    plan.box(spot, (0, 0, 0), (wide, high, 0.42), body)
    metal = plan.cover("plain", 0.5, 0.5, gloss=0.8, returns=0.3)
    for x in (-1, 1):
        plan.box(spot, (x * wide / 4, 0.05, -0.22), (wide / 2 - 0.008, high - 0.08, 0.018), door)
        plan.box(spot, (x * 0.05, high / 2, -0.24), (0.014, 0.14, 0.02), metal)
    clutter(plan, spot, wide, 0.42, high, 3)


def parcels(plan: Plan, spot: Spot, count: int = 4) -> None:
    """A heap of boxes on the floor."""
    high = 0.0
    for i in range(count):
        size = plan.rng.uniform(0.22, 0.5, 3)
        there = spot.at(0.0 if i else 0.02, 0.0, float(plan.rng.uniform(-0.4, 0.4)))
        if i == count - 1 and count > 2:
            there, high = spot.at(0.5, -0.1, float(plan.rng.uniform(-1, 1))), 0.0
        plan.box(there, (0, high, 0), (float(size[0]), float(size[1]) * 0.8, float(size[2])), plan.cover("cardboard"))
        high += float(size[1]) * 0.8


def hanging(plan: Plan, spot: Spot, lift: float, wide: float, high: float, kind: str) -> None:
    """A picture in a frame, or a poster or sheet without one, on the wall behind the spot."""
    if kind == "picture":
        frame = plan.cover("wood", 0.4, plan.rng.uniform(0.4, 1.0))
        plan.box(spot, (0, lift, -0.014), (wide, high, 0.028), frame)
        plan.box(spot, (0, lift + 0.035, -0.03), (wide - 0.07, high - 0.07, 0.004), plan.cover("picture"))
    else:
        plan.box(spot, (0, lift, -0.002), (wide, high, 0.004), plan.cover(kind))


def opening(plan: Plan, spot: Spot, kind: str) -> None:
    """A door or a window in the wall behind the spot."""
    white = plan.cover("plain", 0.7, plan.color(0.5, 0.95))
    if kind == "door":
        plan.box(spot, (0, 0, -0.02), (1.0, 2.08, 0.04), white)
        plan.box(spot, (0, 0.01, -0.045), (0.88, 2.0, 0.012), plan.cover("wood", 1.2))
        plan.box(spot, (0.36, 1.0, -0.08), (0.12, 0.02, 0.05), plan.cover("plain", 0.5, 0.5, gloss=0.8))
        return
    sky = Cover(plan.palette["plain"][0], 0.8, (1.0, 0.95, 0.88), glow=3.0, returns=0.02)
    plan.box(spot, (0, 0.9, -0.03), (1.3, 1.25, 0.06), white, lit=False)
    for x in (-0.3, 0.3):
        plan.box(spot, (x, 0.97, -0.062), (0.56, 1.1, 0.004), sky, lit=False)
    plan.box(spot, (0, 0.87, -0.1), (1.4, 0.03, 0.2), white)


def plant(plan: Plan, spot: Spot) -> None:
    """A pot and leaves, which are spheres and thin boxes."""
    plan.box(spot, (0, 0, 0), (0.3, 0.32, 0.3), plan.cover("plain", 0.5, plan.color(0.2, 0.8)))
    for _ in range(12):
        a, lean = plan.rng.uniform(0, 6.28), plan.rng.uniform(0.2, 1.0)
        c, s = np.cos(lean), np.sin(lean)
        tilt = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
        leaf = plan.cover("plain", 0.4, (0.1, float(plan.rng.uniform(0.2, 0.5)), 0.12))
        there = spot.at(0.0, 0.0, a)
        place = (0.0, 0.32 + float(plan.rng.uniform(0.0, 0.45)), 0.12 + 0.1 * float(lean))
        plan.box(there, place, (0.07, 0.34, 0.004), leaf, tilt=tilt)
