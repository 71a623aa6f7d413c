"""Which files are held out."""

import pytest

from tae.training.images.split import held_out


def chosen(names: list[str], by: str = "file") -> set[str]:
    return {name for name, is_out in zip(names, held_out(names, by), strict=True) if is_out}  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "least", "most"), [(2, 1, 1), (39, 1, 9), (40, 8, 12), (1000, 70, 130)])
def test_about_one_in_ten_is_held_out_and_eight_at_least_of_forty(count: int, least: int, most: int) -> None:
    for start in (0, 5000):
        assert least <= len(chosen([f"{number}.png" for number in range(start, start + count)])) <= most


def test_the_split_stays_as_files_come_and_go() -> None:
    names = [f"{number}.png" for number in range(300)]
    assert chosen(names) & {*names[:200]} == chosen(names[:200])
    assert chosen(names[::-1]) == chosen(names)


def test_crops_of_a_photograph_and_files_of_a_folder_stay_together() -> None:
    names = [f"day{day}/tree{tree}_{crop:02}.png" for day in range(12) for tree in "abc" for crop in range(3)]
    by_stem, by_folder = chosen(names, "stem"), chosen(names, "folder")
    stems = [name.rsplit("_", 1)[0] for name in names]
    for out, keys in ((by_stem, stems), (by_folder, [name.split("/")[0] for name in names])):
        sides = {key: {name in out for name, other in zip(names, keys, strict=True) if other == key} for key in keys}
        assert all(len(side) == 1 for side in sides.values()) and 8 <= len(out) < len(names) / 3
    assert chosen(["1.png", "2.png"], "stem") in ({"1.png"}, {"2.png"})  # a number alone is no ending


def test_one_group_cannot_be_split() -> None:
    for by, names in (("folder", ["a/1.png", "a/2.png"]), ("stem", ["a1.png", "a2.png"])):
        with pytest.raises(
            ValueError, match=f"at least two groups to hold some out by {by}, got one; hold out by file"
        ):
            held_out(names, by)  # type: ignore[arg-type]
