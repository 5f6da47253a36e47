"""The counting itself."""

from __future__ import annotations

from ..support.tally import Tally, seeded, table


def test_rows_of_the_same_fault_add_up_and_a_loss_is_marked() -> None:
    one, other = Tally(), Tally()
    one.tried("wire: cut", 3)
    one.survived("wire: cut", 3)
    other.tried("wire: cut", 2000)
    other.survived("wire: cut", 1999)
    other.tried("frames: fuzz")
    other.survived("frames: fuzz")
    assert table([*one.rows(), *other.rows()]) == [
        "fault             tries   survived",
        "frames: fuzz          1          1",
        "wire: cut         2,003      2,002  <<<",
    ]
    assert table([]) == []


def test_randomness_depends_on_the_name() -> None:
    assert seeded("a").random() == seeded("a").random() != seeded("b").random()
