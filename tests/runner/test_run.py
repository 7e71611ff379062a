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


def test_names_that_move_from_row_to_row_end_at_their_new_rows(mill: Any, fake: FakeComfy) -> None:
    def name(names: list[str]) -> Any:
        return lambda rows: [row.update(filename=name) for row, name in zip(rows, names, strict=True)]

    mill.write(4, name(["a", "b", "c", "d"]))
    mill.run(fake)
    mill.write(4, name(["b", "c", "d", "e"]))

    assert mill.run(fake).exit_code == 0
    mill.audit(4, fakes=(fake,))
    assert sorted(path.name for path in mill.out.glob("*.png")) == ["b.png", "c.png", "d.png", "e.png"]
    for entry in mill.entries():
        embedded = json.loads(Image.open(mill.out / entry["file"]).text["prompt"])
        assert embedded["6"]["inputs"]["text"] == entry["prompt"]


def test_an_image_that_was_removed_is_made_again(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake)
    (mill.out / "S2_1.png").unlink()

    assert mill.run(fake).made == 1
    mill.audit(6, fakes=(fake,))


def test_an_image_that_was_removed_and_whose_row_was_changed_is_made_anew(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake)
    (mill.out / "S2_1.png").unlink()
    mill.write(change=lambda rows: rows[1].update(prompt="better"))

    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))


def test_an_id_that_changes_its_case_keeps_one_file(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake)
    mill.write(change=lambda rows: rows[1].update(sku="s2"))

    assert mill.run(fake).exit_code == 0
    names = [path.name.lower() for path in mill.out.glob("*.png")]
    assert len(names) == len(set(names)) == 6


def test_a_batch_size_from_the_table_counts(mill: Any, fake: FakeComfy) -> None:
    mill.write(
        2,
        lambda rows: [row.update({"EmptyLatentImage.batch_size": str(n + 1)}) for n, row in enumerate(rows)],
    )

    assert mill.run(fake, name="{sku}_{index}.png").exit_code == 0
    assert sorted(path.name for path in mill.out.glob("*.png")) == ["S1_1.png", "S2_1.png", "S2_2.png"]


def test_a_server_named_twice_is_one_server(mill: Any, fake: FakeComfy) -> None:
    assert mill.run(fake, fake.url + "/").exit_code == 0
    mill.audit(6, fakes=(fake,))


def test_a_login_in_the_address_is_used_and_never_stored(mill: Any, fake: FakeComfy) -> None:
    seen: list[str] = []

    def look(request: Any, proceed: Any) -> Any:
        seen.append(request.authorization)
        return proceed()

    fake.on_request("/prompt").do(look)

    assert mill.run(fake.url.replace("http://", "http://bob:s3cret@")).exit_code == 0
    assert set(seen) == {"Basic Ym9iOnMzY3JldA=="}
    for path in mill.out.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes()


def test_the_folders_own_names_are_refused(mill: Any, fake: FakeComfy) -> None:
    for name in (
        "workflow.png",
        "superseded/{sku}.png",
        "thumbnails/{sku}.png",
        "a.png/{sku}.png",
        ".{sku}.png",
    ):
        with pytest.raises(PromptmillError):
            mill.run(fake, name=name)
    assert not mill.out.exists()


def test_a_blank_file_name_is_refused(mill: Any, fake: FakeComfy) -> None:
    mill.write(2, lambda rows: rows[0].update(filename="x"))

    assert "blank" in str(_refused(mill, fake))


def test_a_lost_ledger_is_noticed(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake)
    for path in mill.out.glob("ledger.sqlite*"):
        path.unlink()

    with pytest.raises(OutputError, match="ledger"):
        mill.run(fake)
    assert len(fake.posts) == 6


@pytest.mark.parametrize("name", ["what? 100%#1", "a%20b", "输出 文件夹"])
def test_an_output_folder_may_have_any_name(mill: Any, fake: FakeComfy, name: str) -> None:
    from promptmill.driver.runner import run

    out = mill.folder / name
    assert run(mill.request(fake), out=out).exit_code == 0
    assert (out / "ledger.sqlite").is_file()
    assert {path.name for path in mill.folder.iterdir()} == {"products.csv", "workflow.json", name}


def test_force_sets_aside_what_would_be_in_the_way(mill: Any, fake: FakeComfy) -> None:
    mill.out.mkdir()
    for name in ("recipe.toml", "workflow.json", "index.html", "manifest.csv", ".mine.part"):
        (mill.out / name).write_text("mine", encoding="utf-8")

    assert mill.run(fake, force=True).exit_code == 0
    for name in ("recipe.toml", "workflow.json", "index.html", "manifest.csv"):
        assert (mill.out / "superseded" / name).read_text(encoding="utf-8") == "mine"
    assert (mill.out / ".mine.part").read_text(encoding="utf-8") == "mine"


def test_a_manifest_that_cannot_be_replaced_is_told_and_nothing_is_lost(mill: Any, fake: FakeComfy) -> None:
    mill.run(fake, limit=1)
    (mill.out / "manifest.csv").unlink()
    (mill.out / "manifest.csv").mkdir()

    result = mill.run(fake)

    assert result.exit_code == 1
    assert result.made == 5


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


def test_a_workflow_value_that_a_blank_cell_would_leave_is_checked(mill: Any, fake: FakeComfy) -> None:
    mill.write_workflow(lambda graph: graph["3"]["inputs"].update(steps=99999))
    mill.table.write_text("sku,prompt,steps\na,x,5\nb,y,\n", encoding="utf-8")

    error = _refused(mill, fake)

    assert "line 3" in str(error)
    assert "99999" in str(error)


def test_a_constant_that_the_server_refuses_is_said_once_with_its_address(mill: Any, fake: FakeComfy) -> None:
    error = _refused(mill, fake, bindings={"KSampler.steps": "two"})

    assert isinstance(error, ValueRefused)
    assert error.where == "KSampler.steps"


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
