"""Where a record names another by its id."""

from __future__ import annotations

import pytest

from taskstore_async.core.mentions import find_mentions, with_mentions


class TestMentions:
    """An id counts as a whole word of a text; an integer that spells it, where a reference stands."""

    @pytest.mark.parametrize(
        ("fields", "paths"),
        [
            ({"id": "bd-7"}, []),
            ({"parent_id": "bd-7"}, ["parent_id"]),
            ({"blocked_by_ids": ["bd-1", "bd-7"]}, ["blocked_by_ids[]"]),
            ({"links": [{"task_id": "bd-7"}, {"task_id": "bd-7"}]}, ["links[].task_id"]),
            ({"meta": {"notes": "see bd-7, please"}}, ["meta.notes"]),
            ({"notes": "bd-7."}, ["notes"]),
            ({"notes": "bd-77 abd-7 bd-7-x bd-7.1 x-bd-7"}, []),
            ({"n": 7}, []),
            ({"flag_id": True}, []),
        ],
    )
    def test_where_it_stands(self, fields: dict[str, object], paths: list[str]) -> None:
        assert find_mentions(fields, "bd-7") == paths

    def test_an_integer_names_it_where_a_reference_stands(self) -> None:
        fields: dict[str, object] = {"parent_id": 7, "points": 7, "owner": 7}
        assert find_mentions(fields, "7") == ["parent_id"]
        assert find_mentions(fields, "7", references={"owner"}) == ["parent_id", "owner"]
        assert with_mentions(fields, "7", "7-x") == {"parent_id": "7-x", "points": 7, "owner": 7}

    def test_the_new_id_comes_in_its_place_everywhere(self) -> None:
        fields: dict[str, object] = {"id": "bd-7", "a_id": "bd-7", "l": [{"t": "bd-7 or bd-77"}], "n": 1.5}
        made = with_mentions(fields, "bd-7", r"bd-7-\1")
        assert made == {"id": "bd-7", "a_id": r"bd-7-\1", "l": [{"t": r"bd-7-\1 or bd-77"}], "n": 1.5}
