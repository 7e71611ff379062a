"""Given a table and templates, expect one job per row and variant, wholly decided by the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptmill.errors import FileNameError, Problems, TableError, TemplateError
from promptmill.table import Job, Jobs, Selection, derive_seed, open_table

CSV = """sku,prompt,style,seed,width,cfg
MUG-1,a red mug,oil,7,512,
MUG-2,a blue mug,,,,2.5
BOWL,a bowl,oil,,,
"""


@pytest.fixture
def table(tmp_path: Path):
    def make(text: str = CSV, name: str = "products.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return open_table(tmp_path / name)

    return make


def refusal(jobs: Jobs) -> str:
    with pytest.raises(Exception) as caught:
        jobs.check()
    return str(caught.value)


def test_each_row_becomes_a_job_with_its_own_seed_name_and_settings(table) -> None:
    jobs = list(Jobs(table()))

    assert [(job.row.id, job.file, job.prompt) for job in jobs] == [
        ("MUG-1", "MUG-1_1.png", "a red mug"),
        ("MUG-2", "MUG-2_1.png", "a blue mug"),
        ("BOWL", "BOWL_1.png", "a bowl"),
    ]
    assert [job.seed for job in jobs] == [7, derive_seed(0, "MUG-2", 1), derive_seed(0, "BOWL", 1)]
    assert (jobs[0].settings.width, jobs[0].settings.cfg) == (512, None)
    assert (jobs[1].settings.width, jobs[1].settings.cfg) == (None, 2.5)


def test_templates_fill_prompt_and_name_and_the_negative_of_rows_without_one(table) -> None:
    given = table("id,prompt,style,negative\na,mug,oil,blurry\nb,bowl,ink,\n")

    jobs = list(
        Jobs(given, prompt="{prompt}, {style}", negative="no {style}", name="{style}/{id}_{row:03}.png")
    )

    assert [job.prompt for job in jobs] == ["mug, oil", "bowl, ink"]
    assert [job.negative for job in jobs] == ["blurry", "no ink"]
    assert [job.file for job in jobs] == ["oil/a_001.png", "ink/b_002.png"]


def test_variants_count_a_given_seed_up_and_derive_the_others(table) -> None:
    jobs = list(Jobs(table(), variants=2, seed=5))

    assert [(job.variant, job.seed) for job in jobs[:3]] == [(1, 7), (2, 8), (1, derive_seed(5, "MUG-2", 1))]


def test_rows_are_chosen_by_number_and_by_condition(table) -> None:
    def ids(**chosen) -> list[str]:
        return [job.row.id for job in Jobs(table(), **chosen)]

    assert ids(selection=Selection.parse("2-3")) == ["MUG-2", "BOWL"]
    assert ids(conditions="sku = mug-*") == ["MUG-1", "MUG-2"]
    assert ids(conditions="style =") == ["MUG-2"]
    assert ids(conditions="style != oil\n\nsku=MUG*") == ["MUG-2"]
    assert ids(conditions="sku = MUG-?") == []
    assert ids(conditions="sku = [MB]*") == []


@pytest.mark.parametrize("text", ["colour = red", "style oil", "= oil", "style == oil"])
def test_a_condition_that_is_none_is_refused_with_the_columns(table, text: str) -> None:
    with pytest.raises(TableError, match="one of: sku, prompt, style"):
        Jobs(table(), conditions=text)


def test_no_row_left_is_an_error_not_an_empty_list(table) -> None:
    assert "no row is chosen" in refusal(Jobs(table(), conditions="sku = nothing"))


def test_a_job_is_found_by_row_and_variant_and_never_wraps_around(table) -> None:
    jobs = Jobs(table(), variants=2, selection=Selection.parse("1-2"))

    assert jobs.find(2, 2).row.id == "MUG-2"
    for row, variant in ((3, 1), (0, 1), (1, 3)):
        with pytest.raises(TableError):
            jobs.find(row, variant)
    with pytest.raises(TableError, match="last chosen row is 2"):
        jobs.find(99, 1)


def test_rows_found_in_any_order_are_those_of_the_table(table, monkeypatch) -> None:
    monkeypatch.setattr("promptmill.table.jobs.AHEAD", 3)
    jobs = Jobs(
        table("id,prompt\n" + "".join(f"r{number},x\n" for number in range(1, 21))), conditions="id != r7"
    )

    for number in (1, 2, 3, 4, 20, 19, 6, 8, 9, 1):
        assert jobs.find(number, 1).row.id == f"r{number}"
    for number in (7, 21, 0):
        with pytest.raises(TableError, match="last chosen row is 20"):
            jobs.find(number, 1)


def test_all_that_is_wrong_is_told_at_once_with_its_line(table) -> None:
    given = table("id,prompt,width,cfg\na,,12,\nb,mug,big,\nc,mug,,101\nd,mug,512.0,nan\ne,mug,100,\n")

    with pytest.raises(Problems) as caught:
        Jobs(given).check()

    told = str(caught.value)
    for place in ("line 2", "line 3", "line 4", "line 5", "line 6"):
        assert place in told
    assert "the prompt is blank" in told
    assert "width is a multiple of 8 from 16 to 16384 (found '100')" in told
    assert "cfg is a number from 0.0 to 100.0" in told


def test_names_that_would_be_one_file_on_some_system_are_refused(table) -> None:
    assert "lines 2, 3" in refusal(Jobs(table("id,prompt\nA,x\na,y\n")))
    with pytest.raises(FileNameError):
        next(iter(Jobs(table(), name="../{sku}.png")))
    with pytest.raises(FileNameError, match=r"end the pattern with \.png"):
        next(iter(Jobs(table(), name="{sku}.jpg")))


def test_a_template_with_an_unknown_name_is_refused_at_once(table) -> None:
    with pytest.raises(TemplateError, match="styl"):
        Jobs(table(), prompt="{styl}")
    with pytest.raises(TableError, match="no column holds the prompt"):
        Jobs(table("id,title\na,mug\n"))


def test_the_digest_changes_with_everything_that_shapes_the_image_and_with_nothing_else(table) -> None:
    base = "id,prompt,width,cfg,note\na,mug,512,2,x\n"

    def digest(text: str, **changed) -> str:
        return next(iter(Jobs(table(text), **changed))).digest

    assert digest(base) == digest("note,cfg,width,prompt,id\ny,2,512,mug,a\n")
    changes = [
        digest(base.replace("mug", "cup")),
        digest(base.replace("512", "256")),
        digest(base.replace(",2,", ",3,")),
        digest(base.replace("\na,", "\nb,")),
        digest(base, seed=1),
        digest(base, negative="blurry"),
        digest(base, name="{id}.png"),
    ]
    assert len({digest(base), *changes}) == 8


def test_the_jobs_may_be_read_again_and_again(table) -> None:
    jobs = Jobs(table())

    assert jobs.check() == 3
    assert [job.digest for job in jobs] == [job.digest for job in jobs]
    assert all(isinstance(job, Job) for job in jobs)
