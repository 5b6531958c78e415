"""What stores keep of the sources of what runs write: few, exact by column, and nothing that is judged elsewhere."""

from __future__ import annotations

from dustrun.core.sources.kept import as_json, changed, given_to, joined, kept_of, of_json, of_part

FORM, MODEL, CLOCK = (frozenset({one}) for one in ("trigger:manual", "model:con_1", "clock"))


def test_what_hands_are_kept_of_is_left_out_and_many_of_a_kind_are_one() -> None:
    given = [
        "definition:wf@1#n.x",
        "table:t",
        "starter",
        "run",
        "trigger:webhook.body.to",
        "trigger:webhook[0]",
        "clock",
    ]
    assert kept_of(given) == {"trigger:webhook", "clock"}
    assert kept_of(f"http:h{n}" for n in range(30)) == {"http:*"}


def test_columns_are_told_apart_and_a_key_that_is_named_by_others_shapes_all_of_its_row() -> None:
    written = {"": CLOCK, "to": FORM}
    row = given_to(written, ["id", "to", "n"], "id")
    assert [of_part(row, name) for name in ("to", "n", "*")] == [CLOCK | FORM, CLOCK, CLOCK | FORM]
    assert of_part(given_to({"id": FORM}, ["id", "n"], "id"), "n") == FORM
    assert of_part(given_to({"*": MODEL}, ["id", "n"], "id"), "n") == MODEL


def test_what_is_written_anew_forgets_what_shaped_it_before() -> None:
    row = given_to({"to": FORM}, ["id", "to", "n"], "id")
    by_model = changed(row, {"n": MODEL}, ["n"], "id")
    assert [of_part(by_model, name) for name in ("to", "n")] == [FORM, MODEL]
    by_hand = changed(by_model, {}, ["to", "n"], "id")
    assert as_json(by_hand) == {}
    assert joined([by_model, {"to": CLOCK}])["to"] == FORM | CLOCK
    assert of_part(of_json(as_json(by_model)), "to") == FORM
