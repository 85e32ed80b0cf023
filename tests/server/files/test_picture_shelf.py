"""Which pictures have to go when there are too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.server.files.picture_shelf import PictureShelf


def test_the_least_recently_used_picture_goes_first() -> None:
    shelf = PictureShelf(30)
    assert [shelf.add(name, 10, "key") for name in "abc"] == [[], [], []]
    shelf.use("a")
    shelf.use("unknown")
    assert shelf.add("d", 10, "key") == ["b"]
    assert shelf.add("c", 10, "key") == [], "it is there already, and used now"
    assert shelf.add("e", 20, "key") == ["a", "d"]
    assert (len(shelf), shelf.total) == (2, 30)


def test_the_owner_of_the_most_bytes_loses_a_picture_first() -> None:
    shelf = PictureShelf(50)
    shelf.add("only", 10, "modest")
    gone = [name for number in range(20) for name in shelf.add(f"many-{number}", 10, "greedy")]
    assert gone == [f"many-{number}" for number in range(16)]


def test_a_picture_belongs_to_the_owner_that_stored_it_last() -> None:
    shelf = PictureShelf(30)
    shelf.add("shared", 10, "one")
    shelf.add("own", 10, "two")
    shelf.add("shared", 10, "two")
    assert shelf.add("new", 20, "one") == ["own"]


def test_the_new_picture_stays_even_if_it_is_larger_than_the_bound() -> None:
    shelf = PictureShelf(30)
    shelf.add("a", 10, "one")
    shelf.add("b", 10, "two")
    assert shelf.add("large", 99, "three") == ["a", "b"]
    assert (len(shelf), shelf.total) == (1, 99)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40), st.sampled_from("xyz"))))
def test_the_bound_holds_and_the_sum_is_that_of_the_pictures(added: list[tuple[str, int, str]]) -> None:
    shelf, sizes = PictureShelf(60), dict[str, int]()
    for name, size, owner in added:
        sizes[name] = size
        for gone in shelf.add(name, size, owner):
            del sizes[gone]
        assert (len(shelf), shelf.total) == (len(sizes), sum(sizes.values()))
        assert shelf.total <= 60
        assert name in sizes
