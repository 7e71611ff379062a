"""The main job without faults: run, resume, change, select."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptmill.driver.runner import RunEvent
from promptmill.driver.testing import FakeComfy, object_info
from promptmill.errors import (
    FileNameError,
    OutputError,
    Problems,
    PromptmillError,
    ServerError,
    TableError,
    ValueRefused,
)


def test_every_row_and_variant_becomes_one_named_image(mill: Any, fake: FakeComfy) -> None:
    result = mill.run(fake, name="{sku}_v{variant}.png", variants=2)

    assert result.exit_code == 0
    assert result.made == 12
    mill.audit(12, fakes=(fake,))
    assert (mill.out / "S3_v2.png").is_file()
    assert len(fake.posts) == 12


def test_the_same_command_again_does_nothing(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake)
    before = (mill.out / "S1_1.png").stat().st_mtime_ns

    result = mill.run(fake)

    assert (result.exit_code, result.made) == (0, 0)
    assert len(fake.posts) == 6
    assert (mill.out / "S1_1.png").stat().st_mtime_ns == before


def test_the_resolved_recipe_on_the_same_table_changes_nothing(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake, variants=2, name="{sku}-{variant}.png", bindings={"KSampler.cfg": "6"})

    result = mill.run(fake, workflow=mill.out / "recipe.toml")

    assert (result.exit_code, result.made) == (0, 0)
    assert len(fake.posts) == 12


def test_an_image_carries_its_own_rows_prompt(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake)

    graph = json.loads(Image.open(mill.out / "S4_1.png").text["prompt"])

    assert graph["6"]["inputs"]["text"] == "product number 4 of the row"
    assert graph["3"]["inputs"]["seed"] == int(mill.entries()[3]["seed"])


def test_inserting_sorting_and_filtering_rows_change_no_other_rows_image(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake)
    before = {entry["row_id"]: (entry["seed"], entry["sha256"]) for entry in mill.entries()}

    def change(rows: list[dict[str, str]]) -> None:
        rows.reverse()
        rows.insert(2, {"sku": "NEW", "prompt": "a new one"})

    mill.write(change=change)
    result = mill.run(fake)

    after = {entry["row_id"]: (entry["seed"], entry["sha256"]) for entry in mill.entries()}
    assert result.made == 1
    assert {key: after[key] for key in before} == before


def test_a_changed_row_is_made_again_and_its_earlier_image_is_kept_aside(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake)
    old = (mill.out / "S2_1.png").read_bytes()

    mill.write(change=lambda rows: rows[1].update(prompt="something else"))
    result = mill.run(fake)

    assert result.made == 1
    mill.audit(6, fakes=(fake,))
    assert (mill.out / "S2_1.png").read_bytes() != old
    assert (mill.out / "superseded" / "S2_1.png").read_bytes() == old


def test_the_image_of_a_row_whose_name_changed_is_kept_aside(mill: Any, fake: FakeComfy) -> None:
    mill.write(change=lambda rows: [row.update(style="old") for row in rows])
    mill.run(fake, name="{style}/{sku}.png")

    mill.write(change=lambda rows: [row.update(style="new" if row["sku"] == "S2" else "old") for row in rows])
    result = mill.run(fake, name="{style}/{sku}.png")

    assert result.made == 1
    mill.audit(6, fakes=(fake,))
    assert (mill.out / "new" / "S2.png").is_file()
    assert (mill.out / "superseded" / "old" / "S2.png").is_file()


def test_a_row_changed_and_changed_back_is_current_again(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake)
    first = mill.entries()[1]["sha256"]
    mill.write(change=lambda rows: rows[1].update(prompt="something else"))
    mill.run(fake)

    mill.write()
    result = mill.run(fake)

    assert result.exit_code == 0
    mill.audit(6)
    assert (
        Image.open(mill.out / "S2_1.png").tobytes()
        == Image.open(mill.out / "superseded" / "S2_1.png").tobytes()
    )
    assert first != mill.entries()[1]["sha256"], "it was made under a prefix of its own"


def test_a_row_that_left_the_table_before_it_was_made_is_cancelled(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake, rows="1-2")
    mill.write(change=lambda rows: rows[0].update(prompt="changed"))
    fake.on_prompt().fail("ValueError", "no")
    mill.run(fake, rows="1")
    fake.behave()

    mill.write(4)
    result = mill.run(fake)

    assert result.exit_code == 0
    mill.audit(4)


@pytest.mark.parametrize(("rows", "limit", "made"), [("1-2,5", None, 3), (None, 4, 4), ("2-6", 2, 2)])
def test_only_the_selected_rows_are_made(
    mill: Any, fake: FakeComfy, rows: str | None, limit: int | None, made: int
) -> None:
    assert mill.run(fake, rows=rows, limit=limit).made == made

    assert mill.run(fake).made == 6 - made
    mill.audit(6, fakes=(fake,))


def test_rows_that_need_the_same_model_are_kept_together(mill: Any, fake: FakeComfy) -> None:
    models = ["model_a.safetensors", "model_b.safetensors"]

    def alternate(rows: list[dict[str, str]]) -> None:
        for number, row in enumerate(rows):
            row["CheckpointLoaderSimple.ckpt_name"] = models[number % 2]

    mill.write(8, alternate)
    mill.run(fake)

    used = [post.graph["4"]["inputs"]["ckpt_name"] for post in fake.posts]
    assert used == sorted(used)


def test_two_servers_take_a_model_each(mill: Any, fake: FakeComfy, other: FakeComfy) -> None:
    fake.seconds_per_job = other.seconds_per_job = 0.02
    models = ["model_a.safetensors", "model_b.safetensors"]
    mill.write(
        40,
        lambda rows: [
            row.update({"CheckpointLoaderSimple.ckpt_name": models[n % 2]}) for n, row in enumerate(rows)
        ],
    )
    mill.run(fake, other)

    mill.audit(40, fakes=(fake, other))
    changes = 0
    for server in (fake, other):
        used = [post.graph["4"]["inputs"]["ckpt_name"] for post in server.posts]
        changes += sum(a != b for a, b in pairwise(used))
    assert changes <= 2


def test_a_batch_gives_every_image_a_name(mill: Any, fake: FakeComfy) -> None:
    mill.write_workflow(lambda graph: graph["5"]["inputs"].update(batch_size=3))

    mill.run(fake, rows="1-2", name="{sku}_{index}.png")

    names = sorted(path.name for path in mill.out.glob("*.png"))
    assert names == ["S1_1.png", "S1_2.png", "S1_3.png", "S2_1.png", "S2_2.png", "S2_3.png"]


def test_large_images_get_thumbnails_and_small_ones_are_their_own(mill: Any, fake: FakeComfy) -> None:
    mill.table.write_text("sku,prompt,width\na,x,512\nb,y,\n", encoding="utf-8")

    mill.run(fake)

    large, small = mill.entries()
    assert Image.open(mill.out / large["thumbnail"]).size == (256, 32)
    assert small["thumbnail"] == ""


def test_two_identical_rows_are_two_files_and_two_records(mill: Any, fake: FakeComfy) -> None:
    """Fault 20."""
    mill.table.write_text("prompt,seed\na red mug,5\na red mug,5\n", encoding="utf-8")

    mill.run(fake)

    mill.audit(2, fakes=(fake,))


def test_the_seed_of_the_table_is_used_as_it_stands(mill: Any, fake: FakeComfy) -> None:
    mill.table.write_text(f"sku,prompt,seed\na,x,{2**64 - 1}\nb,y,\nc,z,7\n", encoding="utf-8")

    mill.run(fake)

    seeds = {post.graph["6"]["inputs"]["text"]: post.graph["3"]["inputs"]["seed"] for post in fake.posts}
    assert seeds["x"] == 2**64 - 1
    assert seeds["z"] == 7
    assert seeds["y"] < 2**53


def test_a_blank_cell_leaves_the_workflows_value(mill: Any, fake: FakeComfy) -> None:
    mill.table.write_text("sku,prompt,steps,cfg\na,x,,3.5\nb,y,9,\n", encoding="utf-8")

    mill.run(fake)

    used = {post.graph["6"]["inputs"]["text"]: post.graph["3"]["inputs"] for post in fake.posts}
    assert (used["x"]["steps"], used["x"]["cfg"]) == (2, 3.5)
    assert (used["y"]["steps"], used["y"]["cfg"]) == (9, 4.0)


def test_recipe_defaults_stand_in_for_blank_cells_and_missing_columns(mill: Any, fake: FakeComfy) -> None:
    recipe = mill.folder / "shop.toml"
    recipe.write_text(
        'workflow = "workflow.json"\nname = "{style}/{sku}.png"\n'
        '[bindings]\n"Positive Prompt.text" = "{prompt}, {style} light"\n'
        '[defaults]\nstyle = "soft"\nsteps = 5\n',
        encoding="utf-8",
    )
    mill.table.write_text("sku,prompt,style\na,x,\nb,y,hard\n", encoding="utf-8")

    mill.run(fake, workflow=recipe)

    used = {post.graph["6"]["inputs"]["text"]: post.graph["3"]["inputs"]["steps"] for post in fake.posts}
    assert used == {"x, soft light": 5, "y, hard light": 5}
    assert (mill.out / "soft" / "a.png").is_file()


def test_the_command_line_overrides_the_recipe_however_the_input_is_addressed(
    mill: Any, fake: FakeComfy
) -> None:
    recipe = mill.folder / "recipe.toml"
    recipe.write_text('workflow = "workflow.json"\n[bindings]\n"#3.cfg" = 4\n', encoding="utf-8")

    mill.run(fake, workflow=recipe, bindings={"KSampler.cfg": "7"})

    assert {post.graph["3"]["inputs"]["cfg"] for post in fake.posts} == {7.0}


@pytest.mark.parametrize(
    ("columns", "file"),
    [
        ("sku,name,prompt,文件名", "own"),
        ("sku,name,prompt,filename", "own"),
        ("sku,prompt,name", "A1_1"),
        ("prompt,name", "cup"),
        ("prompt", "00001_1"),
    ],
)
def test_the_default_name(mill: Any, fake: FakeComfy, columns: str, file: str) -> None:
    cells = {"sku": "A1", "name": "cup", "prompt": "x", "文件名": "own", "filename": "own"}
    row = ",".join(cells[column] for column in columns.split(","))
    mill.table.write_text(f"{columns}\n{row}\n", encoding="utf-8")

    mill.run(fake)

    assert [path.name for path in mill.out.glob("*.png")] == [f"{file}.png"]


@pytest.mark.postgresql
def test_the_ledger_may_be_in_postgresql(mill: Any, fake: FakeComfy, postgresql: str) -> None:
    assert mill.run(fake, rows="1-3", database=postgresql).made == 3

    result = mill.run(fake, database=postgresql)

    assert (result.exit_code, result.made) == (0, 3)
    assert len(fake.posts) == 6
    assert [entry["state"] for entry in mill.entries(postgresql)] == ["done"] * 6
    assert not list(mill.out.glob("*.sqlite"))
    with pytest.raises(OutputError, match="--database"):
        mill.run(fake)


# Bad input: nothing is queued, nothing is made


def _refused(mill: Any, *fakes: Any, **given: Any) -> PromptmillError:
    with pytest.raises(PromptmillError) as caught:
        mill.run(*fakes, **given)
    assert not mill.out.exists()
    for fake in fakes:
        assert isinstance(fake, str) or not fake.posts
    return caught.value


def test_all_bad_cells_are_reported_together(mill: Any, fake: FakeComfy) -> None:
    mill.table.write_text("sku,prompt,steps,seed\na,x,many,1\nb,,5,1e5\nc,z,-3,-1\n", encoding="utf-8")

    error = _refused(mill, fake)

    assert isinstance(error, Problems)
    text = str(error)
    assert error.exit_code == 2
    for part in ("line 2", "'many'", "line 3", "'1e5'", "line 4", "'-1'"):
        assert part in text


def test_names_that_collide_are_refused_with_their_lines(mill: Any, fake: FakeComfy) -> None:
    mill.table.write_text("sku,prompt,style\na,x,É\nb,y,É\n", encoding="utf-8")

    error = _refused(mill, fake, name="{style}.png")

    assert isinstance(error, FileNameError)
    assert "lines 2, 3" in str(error)


def test_a_name_may_not_leave_the_folder(mill: Any, fake: FakeComfy) -> None:
    mill.table.write_text("sku,prompt,style\na,x,../..\n", encoding="utf-8")

    assert isinstance(_refused(mill, fake, name="{style}/{sku}.png"), FileNameError)


def test_a_jpg_name_for_a_png_saver_is_refused(mill: Any, fake: FakeComfy) -> None:
    assert "end the pattern with .png" in str(_refused(mill, fake, name="{sku}.jpg"))


def test_an_unknown_model_is_refused_with_the_nearest_name(mill: Any, fake: FakeComfy) -> None:
    mill.write_workflow(lambda graph: graph["4"]["inputs"].update(ckpt_name="model_A.safetensor"))

    error = _refused(mill, fake)

    assert isinstance(error, ValueRefused)
    assert "model_a.safetensors" in str(error)


def test_a_missing_prompt_column_is_refused_with_a_hint_to_bind_one(mill: Any, fake: FakeComfy) -> None:
    mill.table.write_text("sku,words\na,x\n", encoding="utf-8")

    error = _refused(mill, fake)

    assert isinstance(error, TableError)
    assert "--set" in error.hint


def test_a_misspelled_prompt_column_is_refused_although_constants_are_bound(
    mill: Any, fake: FakeComfy
) -> None:
    mill.table.write_text("sku,promt\na,x\n", encoding="utf-8")

    assert "no column holds the prompt" in str(_refused(mill, fake, bindings={"KSampler.cfg": "7"}))


def test_no_server_is_exit_3(mill: Any) -> None:
    error = _refused(mill, "http://127.0.0.1:9")

    assert isinstance(error, ServerError)
    assert error.exit_code == 3
    assert "--server" in error.hint


def test_a_server_that_lacks_a_node_or_model_is_left_out_with_the_reason(mill: Any, fake: FakeComfy) -> None:
    """Fault 22."""
    poorer = object_info()
    poorer["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] = ["another.safetensors"]
    told: list[RunEvent] = []
    with FakeComfy(object_info=poorer) as poor, FakeComfy(version="0.3.1", jobs_route=False) as old:
        from promptmill.driver.runner import prepare

        prepared = prepare(
            mill.request(fake, poor, old, "http://127.0.0.1:9"), lambda text: told.append(text)
        )
        result = mill.run(fake, poor, old, "http://127.0.0.1:9")

        assert result.exit_code == 0
        assert not poor.posts
        assert set(prepared.left_out) == {poor.url, "http://127.0.0.1:9"}
        assert "model_a.safetensors" in prepared.left_out[poor.url]
        mill.audit(6, fakes=(fake, old))


def test_a_folder_with_other_files_is_not_mixed_into(mill: Any, fake: FakeComfy) -> None:
    mill.out.mkdir()
    (mill.out / "S1_1.png").write_bytes(b"holiday")

    with pytest.raises(OutputError):
        mill.run(fake)
    assert [path.name for path in mill.out.iterdir()] == ["S1_1.png"]

    assert mill.run(fake, force=True).exit_code == 0
    assert (mill.out / "superseded" / "S1_1.png").read_bytes() == b"holiday"


def test_another_workflow_or_table_in_the_same_folder_is_refused(
    mill: Any, fake: FakeComfy, tmp_path: Path
) -> None:
    mill.run(fake)
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_text("sku,prompt\nS1,another\n", encoding="utf-8")

    with pytest.raises(OutputError, match="another table"):
        mill.run(fake, table=elsewhere)
    mill.write_workflow(lambda graph: graph["3"]["inputs"].update(steps=3))
    with pytest.raises(OutputError, match="another workflow"):
        mill.run(fake)

    assert len(fake.posts) == 6
    assert mill.run(fake, force=True).made == 6
    assert (mill.out / "superseded" / "S1_1.png").is_file()


def test_a_second_driver_on_the_same_folder_is_refused(mill: Any, fake: FakeComfy, watch: Any) -> None:
    """Fault 24."""
    refusals: list[BaseException] = []

    def intrude(event: RunEvent) -> None:
        if event.kind == "done" and not refusals:
            with pytest.raises(OutputError) as caught:
                mill.run(fake)
            refusals.append(caught.value)

    assert mill.run(fake, watcher=watch(intrude)).exit_code == 0
    assert "another promptmill" in str(refusals[0])
    mill.audit(6, fakes=(fake,))
