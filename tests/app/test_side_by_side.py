"""Every piece is worked on once, what follows from it too; one that fails stops none of the others."""

import operator

import pytest

from app.side_by_side import Piece, side_by_side


@pytest.mark.parametrize("jobs", [1, 2])
def test_pieces_lead_to_pieces_and_an_error_comes_last(jobs):
    found = []

    def then(value):
        found.append(value)
        return [Piece(operator.mul, (value,), found.append)] if value < 10 else None

    pieces = [Piece(operator.add, (n,), then) for n in (1, 2)]
    broken = Piece(operator.truediv, (0,), found.append)
    with pytest.raises(ZeroDivisionError):
        side_by_side([pieces[0], broken, pieces[1]], jobs, int, "7")
    assert sorted(found) == [8, 9, 7 * 8, 7 * 9]


def test_with_nothing_to_do_nothing_is_opened():
    side_by_side([], 1, pytest.fail, "opened")


def test_what_is_kept_is_kept_when_the_next_piece_is_stopped():
    def stop(_):
        raise KeyboardInterrupt

    found = []
    with pytest.raises(KeyboardInterrupt):
        side_by_side([Piece(operator.add, (1,), found.append), Piece(operator.add, (2,), stop)], 1, int, "7")
    assert found == [8]
