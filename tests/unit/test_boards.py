"""Boards: drawn, seen under perspective, found again to a fraction of a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate_calibration import tags
from foveate_calibration.boards import AprilGrid, Board, Charuco, Chessboard
from foveate_calibration.errors import CalibrationError

TEXTS = (
    "chessboard:9x6:25mm",
    "charuco:8x6:30mm:22mm:DICT_5X5_250",
    "charuco:5x4:3cm:0.022m:DICT_4X4_50:legacy",
    "apriltag:4x3:24mm:7.2mm:tag36h11",
)
CORNERS = np.array([[110.0, 70], [720, 120], [690, 540], [90, 500]])  # where the sheet's corners lie in a view


def seen(board: Board, corners: np.ndarray = CORNERS, size: tuple[int, int] = (800, 600)) -> tuple[np.ndarray, ...]:
    """A view of the board under perspective, from 16 samples a pixel, and the pixels (N x 2) of its points."""
    px_per_m = 4000.0
    picture = board.picture(px_per_m)
    height, width = picture.shape
    edge = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]])
    view = cv2.getPerspectiveTransform(edge.astype(np.float32), corners.astype(np.float32))
    fine = np.array([[4.0, 0, 1.5], [0, 4, 1.5], [0, 0, 1]])
    large = cv2.warpPerspective(picture, fine @ view, (4 * size[0], 4 * size[1]), borderValue=180)
    image = cv2.resize(large, size, interpolation=cv2.INTER_AREA)
    ends = np.column_stack([board.points_m[:, :2], np.ones(len(board.points_m))])
    ends = ends @ (view @ board.picture_from_board(px_per_m)).T
    return cv2.GaussianBlur(image, (0, 0), 0.8), ends[:, :2] / ends[:, 2:]


@pytest.mark.parametrize("text", TEXTS)
def test_found_where_it_is(text: str) -> None:
    board = Board.parse(text)
    for turn in (False, True):  # upside down the numbers of the points stay
        image, truth = seen(board, CORNERS[[2, 3, 0, 1]] if turn else CORNERS)
        found = board.detect(image)
        assert found is not None
        ids, pixels = found
        assert len(ids) == len(board.points_m) and len(set(ids.tolist())) == len(ids)
        assert np.abs(pixels - truth[ids]).max() < 0.12
        assert np.abs((pixels - truth[ids]).mean(axis=0)).max() < 0.02


@pytest.mark.parametrize("text", TEXTS)
def test_by_way_of_a_mirror(text: str) -> None:
    board = Board.parse(text)
    image, truth = seen(board)
    flipped = np.ascontiguousarray(image[:, ::-1])
    found = board.detect(flipped, mirrored=True)
    assert found is not None
    ids, pixels = found
    there = np.column_stack([image.shape[1] - 1 - truth[ids, 0], truth[ids, 1]])
    assert np.abs(pixels - there).max() < 0.12
    if not isinstance(board, Chessboard):  # a chessboard is its own mirror image; markers are not
        assert board.detect(flipped) is None


@pytest.mark.parametrize("text", TEXTS[1:])
def test_a_part_of_a_board_with_markers_is_found_by_number(text: str) -> None:
    board = Board.parse(text)
    image, truth = seen(board)
    cut = np.ascontiguousarray(image[:, :450])
    found = board.detect(cut)
    assert found is not None
    ids, pixels = found
    assert 4 <= len(ids) < len(board.points_m)
    assert np.abs(pixels - truth[ids]).max() < 0.12
    assert (pixels[:, 0] <= 445).all()


@pytest.mark.parametrize(("border", "quarters"), [(2, 2), (1, 0), (1, 3)])
def test_grids_of_tags_as_others_print_them(border: int, quarters: int) -> None:
    """Kalibr's tags stand on their heads and have two cells of black around; others have one."""
    board = Board.parse(TEXTS[3])
    family = tags.dictionary("tag36h11")
    assert family is not None
    black = [cell for cell in board.black_m if not on_a_tag(board, cell)]
    for k in range(12):
        cells = tags.cells(family, k, border) - 0.5
        for _ in range(quarters):
            cells = np.column_stack([-cells[:, 3], cells[:, 0], -cells[:, 1], cells[:, 2]])
        black += list((cells + 0.5) * 0.024 + np.tile(board.points_m[4 * k, :2], 2))
    object.__setattr__(board, "black_m", np.array(black))
    image, truth = seen(board)
    found = board.detect(image)
    assert found is not None and len(found[0]) == 48
    assert np.abs(found[1] - truth[found[0]]).max() < 0.12


def on_a_tag(board: Board, cell: np.ndarray) -> bool:
    middle = (cell[:2] + cell[2:]) / 2
    return bool(((middle > board.points_m[::4, :2]) & (middle < board.points_m[2::4, :2])).all(axis=1).any())


def test_small_corners_beside_markers_are_not_drawn_to_them() -> None:
    board = Board.parse("charuco:17x13:30mm:22mm:DICT_5X5_250")
    image, truth = seen(board, CORNERS * 0.9)  # squares of 31 px: the markers begin 4 px from the corners
    found = board.detect(image)
    assert found is not None and len(found[0]) > 180
    assert np.sqrt(np.mean((found[1] - truth[found[0]]) ** 2)) < 0.05


def test_nothing_is_found_where_nothing_is() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320), dtype=np.uint8)
    for text in TEXTS:
        assert Board.parse(text).detect(noise) is None


def test_a_chessboard_that_looks_the_same_turned_begins_at_the_upper_left() -> None:
    assert Board.parse("chessboard:8x6:25mm").ambiguous and not Board.parse("chessboard:9x6:25mm").ambiguous
    assert not Board.parse(TEXTS[1]).ambiguous and not Board.parse(TEXTS[3]).ambiguous
    board = Board.parse("chessboard:8x6:25mm")
    for corners in (CORNERS, CORNERS[[2, 3, 0, 1]]):
        found = board.detect(seen(board, corners)[0])
        assert found is not None
        assert found[1][0].sum() < found[1][-1].sum()
        x, y = found[1][7] - found[1][0], found[1][40] - found[1][0]
        assert x[0] * y[1] - x[1] * y[0] > 0


@settings(max_examples=25)
@given(
    st.sampled_from(TEXTS), st.floats(500, 5000), st.floats(0, 0.004), st.integers(0, 2**31),
)  # fmt: skip
def test_white_is_where_the_picture_is_white(text: str, px_per_m: float, margin_m: float, seed: int) -> None:
    board = Board.parse(text)
    picture, to_picture = board.picture(px_per_m), board.picture_from_board(px_per_m)
    x0, y0, x1, y1 = board.sheet_m
    points = np.random.default_rng(seed).uniform((x0 - 0.01, y0 - 0.01), (x1 + 0.01, y1 + 0.01), (200, 2))
    at = np.rint((np.column_stack([points, np.ones(200)]) @ to_picture.T)[:, :2]).astype(int)
    on_sheet = ((points > (x0, y0)) & (points < (x1, y1))).all(axis=1)
    white = board.uniform(points, margin_m)
    assert not white[~on_sheet].any()
    at = at.clip(0, (picture.shape[1] - 1, picture.shape[0] - 1))
    if margin_m * px_per_m > 1:  # then no pixel near may have ink
        assert (picture[at[white, 1], at[white, 0]] == 255).all()
    whole = board.uniform(points)
    assert (whole | ~white).all()
    assert (picture[at[on_sheet & ~whole, 1], at[on_sheet & ~whole, 0]] < 255).all()


def test_the_ink_of_a_picture_is_the_area_of_its_rectangles() -> None:
    for text in TEXTS:
        board = Board.parse(text)
        area = np.prod(board.black_m[:, 2:] - board.black_m[:, :2], axis=1).sum() * 777.0**2
        ink = (255.0 - board.picture(777.0)).sum() / 255
        assert ink == pytest.approx(area, rel=2e-3)


def test_the_printed_page_has_true_size() -> None:
    page = Board.parse("chessboard:9x6:25mm").svg()
    assert 'width="300mm" height="233mm"' in page and page.count("<path") == 35


def test_kinds_and_counts() -> None:
    assert isinstance(Board.parse("apriltag:6x6:24mm:7.2mm:tag36h11"), AprilGrid)
    board = Board.parse("charuco:17x13:30mm:22mm:DICT_5X5_250")
    assert isinstance(board, Charuco) and board.points_m.shape == (192, 3)
    assert np.allclose(board.points_m[17], [0.06, 0.06, 0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("chessbord:9x6:25mm", "unknown board 'chessbord:9x6:25mm'"),
        ("chessboard:9:25mm", "'9' is no count"),
        ("chessboard:1x6:25mm", "2 to 200"),
        ("chessboard:9x6:25", "'25' is no length"),
        ("chessboard:9x6:0mm", "'0mm' is no length"),
        ("chessboard:9x6", "1 length"),
        ("charuco:17x13:30mm:30mm:DICT_5X5_250", "smaller than the square"),
        ("charuco:17x13:30mm:22mm:DICT_9X9", "unknown dictionary 'DICT_9X9'"),
        ("charuco:17x13:30mm:22mm:DICT_5X5_50", "needs 110 markers and DICT_5X5_50 has 50"),
        ("charuco:17x13:30mm:DICT_5X5_50", "square, marker and dictionary"),
        ("apriltag:6x6:24mm:7.2mm:tag99", "unknown family 'tag99'"),
        ("apriltag:9x9:24mm:7.2mm:tag16h5", "needs 81 tags and tag16h5 has 30"),
        ("", "unknown board ''"),
    ],
)
def test_a_board_that_cannot_be_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        Board.parse(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)
