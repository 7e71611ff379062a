"""The test double does what facts of life require: it misbehaves exactly as told, as often as told."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from promptmill.driver.comfy import (
    Ambiguous,
    ComfyClient,
    EventKind,
    JobState,
    NotSent,
    Rejected,
    ServerGone,
    ServerTrouble,
)
from promptmill.driver.testing import FakeComfy, object_info, text_of


def test_pictures_depend_on_everything_above_the_saver_and_on_nothing_else(
    fake, client, run_graph, text_to_image
):
    def pixels(graph):
        return [Image.open(io.BytesIO(client.fetch(it))).tobytes() for it in run_graph(client, graph).outputs]

    first = pixels(text_to_image(prefix="a", batch_size=2))
    assert pixels(text_to_image(prefix="b", batch_size=2)) == first
    assert len({first[0], first[1], pixels(text_to_image(seed=2))[0], pixels(text_to_image("a dog"))[0]}) == 4


def test_pictures_have_the_size_of_the_graph_and_its_metadata(client, fake, run_graph, text_to_image):
    graph = text_to_image("一只橘猫", width=1264, height=848)
    data = client.fetch(run_graph(client, graph).outputs[0])
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (1264, 848)
    assert json.loads(picture.info["prompt"]) == graph
    assert all(low < 20 < 235 < high for low, high in picture.getextrema()), "nobody takes it for blank"
    assert len(data) < 100_000


def test_a_picture_can_be_painted_by_the_test(run_graph, text_to_image):
    with FakeComfy(image=lambda graph, width, height, index: Image.new("L", (width, height), 7)) as fake:
        client = ComfyClient(fake.url)
        image = run_graph(client, text_to_image()).outputs[0]
        assert Image.open(io.BytesIO(client.fetch(image))).mode == "L"


def test_files_are_numbered_by_prefix_also_after_a_restart(fake, client, run_graph, text_to_image):
    names = [run_graph(client, text_to_image(seed=n, prefix="a/b")).outputs[0].filename for n in range(2)]
    names.append(run_graph(client, text_to_image(prefix="a/bb")).outputs[0].filename)
    fake.restart()
    names.append(run_graph(client, text_to_image(seed=9, prefix="a/b")).outputs[0].filename)
    assert names == ["b_00001_.png", "b_00002_.png", "bb_00001_.png", "b_00003_.png"]
    assert fake.images_made == 4


def test_a_prefix_that_leaves_the_folder_fails(client, fake, run_graph, text_to_image):
    found = run_graph(client, text_to_image(prefix="../x"))
    assert found.state is JobState.FAILED
    assert "outside the output folder" in found.error.message
    assert fake.images_made == 0


def test_two_servers_with_one_folder_overwrite_each_other_under_one_prefix(
    tmp_path, run_graph, text_to_image
):
    with FakeComfy(output_dir=tmp_path) as one, FakeComfy(output_dir=tmp_path) as two:
        clients = ComfyClient(one.url), ComfyClient(two.url)
        for seed, client in enumerate((*clients, *clients)):
            run_graph(client, text_to_image(seed=seed, prefix="same"))
        assert one.images_made + two.images_made > len(list(tmp_path.iterdir()))


def test_prompts_that_match_fail_so_many_times(fake, client, run_graph, text_to_image):
    rule = fake.on_prompt(lambda graph: "row 7" in text_of(graph), times=2).fail("RuntimeError", "CUDA error")
    states = [
        run_graph(client, text_to_image(text)).state.value for text in ("row 6", "row 7", "row 7", "row 7")
    ]
    assert states == ["done", "failed", "failed", "done"]
    assert rule.fired == 2


def test_rules_that_match_together_all_act(fake, client, run_graph, text_to_image):
    slow = fake.on_prompt().delay(0.01)
    empty = fake.on_prompt("row 7").saves(lambda png: b"")
    image = run_graph(client, text_to_image("row 7")).outputs[0]
    assert client.fetch(image) == b""
    assert (slow.fired, empty.fired) == (1, 1)


def test_success_without_outputs_and_prompts_that_vanish(fake, client, run_graph, text_to_image):
    fake.on_prompt("nothing").saves_nothing()
    fake.on_prompt("gone").vanish()
    assert run_graph(client, text_to_image("nothing")).outputs == ()
    assert run_graph(client, text_to_image("gone")).state is JobState.UNKNOWN


def test_a_dead_worker_leaves_http_alive_and_the_queue_still(fake, client, submit, text_to_image, until):
    fake.on_prompt("deadly", times=1).kill_worker()
    deadly, waiting = submit(client, text_to_image("deadly")), submit(client, text_to_image())
    until(lambda: fake.life.jobs.running)
    with pytest.raises(TimeoutError):
        fake.wait_until_idle(0.2)
    assert client.lookup(deadly).state is JobState.RUNNING
    assert client.lookup(waiting).state is JobState.PENDING


def test_a_prompt_that_kills_the_server_every_time(fake, client, text_to_image, until):
    rule = fake.on_prompt("deadly").die(back_after=0.1)
    for times in (1, 2):
        prompt_id = str(uuid.uuid4())
        with suppress(Ambiguous):  # it may die before it has answered
            client.submit(prompt_id, text_to_image("deadly"), client_id=None)
        until(lambda times=times: rule.fired == times and fake._life)
        until(lambda: client.queue_remaining() == 0)
        assert client.lookup(prompt_id).state is JobState.UNKNOWN


def test_a_kill_loses_memory_and_keeps_files(fake, client, submit, run_graph, text_to_image):
    done = run_graph(client, text_to_image())
    fake.on_prompt("long").delay(60)
    running = submit(client, text_to_image("long"))

    fake.kill()
    with pytest.raises(NotSent):
        submit(client, text_to_image())
    fake.start()

    assert client.lookup(running).state is JobState.UNKNOWN
    assert client.fetch(done.outputs[0])
    assert client.queue_remaining() == 0


@pytest.mark.parametrize(("keep_files", "keep_history"), [(True, True), (True, False), (False, True)])
def test_a_restart_keeps_what_it_is_told(
    fake, client, submit, finish, text_to_image, keep_files, keep_history
):
    prompt_id = submit(client, text_to_image())
    finish(client, prompt_id)
    fake.restart(keep_files=keep_files, keep_history=keep_history)
    assert client.lookup(prompt_id).state is (JobState.DONE if keep_history else JobState.UNKNOWN)
    assert len(list(fake.output_dir.iterdir())) == keep_files


def test_what_waits_can_be_forgotten(fake, client, submit, text_to_image, until):
    fake.on_prompt("long", times=1).delay(60)
    running, waiting = submit(client, text_to_image("long")), submit(client, text_to_image())
    until(lambda: fake.life.jobs.running)
    fake.forget_queue()
    assert client.lookup(waiting).state is JobState.UNKNOWN
    assert client.lookup(running).state is JobState.RUNNING


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (object_info(models=["model_b.safetensors"]), r"'model_a\.safetensors' not in"),
        (object_info(without=["KSampler"]), "Node 'KSampler' not found"),
    ],
)
def test_a_server_may_lack_a_node_or_a_model(text_to_image, submit, classes, message):
    with FakeComfy(object_info=classes) as fake, pytest.raises(Rejected, match=message):
        submit(ComfyClient(fake.url), text_to_image())


def test_a_flapping_server(fake, client):
    answers = iter([False, True, True, True] * 100)
    fake.on_request(lambda request: next(answers)).refuse()
    assert client.queue_remaining() == 0
    with pytest.raises(ServerGone):
        client.queue_remaining()


def test_slow_replies_and_bad_bodies(fake, client, run_graph, text_to_image):
    image = run_graph(client, text_to_image()).outputs[0]
    fake.on_view("row_", times=1).change(lambda png: png[:50])
    assert len(client.fetch(image)) == 50
    fake.on_view("row_", times=1).delay(2)
    with pytest.raises(ServerGone, match="no answer"):
        ComfyClient(fake.url, timeout=0.3).fetch(image)
    assert client.fetch(image)


def test_messages_can_be_dropped_and_reset(fake, client, listen, submit, text_to_image):
    ears = listen(fake.url)
    dropped = fake.on_message("execution_start").drop()
    fake.on_message("executed", times=1).reset()
    submit(client, text_to_image(), ears.stream.client_id)
    kinds = [event.kind for event in ears.upto(EventKind.DISCONNECTED)]
    assert EventKind.STARTED not in kinds
    assert EventKind.EXECUTED in kinds
    assert EventKind.FINISHED not in kinds
    assert dropped.fired == 1


def test_a_late_post_runs_a_second_time_when_the_first_was_repeated(fake, client, text_to_image, until):
    """Fault 6: the look-up was too early, so the prompt runs twice."""
    fake.on_post(times=1).arrive_late(3)
    ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    with pytest.raises(Ambiguous):
        client.submit(ids[0], text_to_image(prefix="one"), client_id=None)
    client.submit(ids[1], text_to_image(prefix="two"), client_id=None)
    until(lambda: len(fake.posts) == 2)
    fake.wait_until_idle()
    assert [post.prompt_id for post in fake.posts] == ids[::-1]
    assert fake.images_made == 2


def test_behave_forgets_the_rules(fake, client):
    fake.on_request().answer(b"<html>")
    with pytest.raises(ServerTrouble):
        client.queue_remaining()
    fake.behave()
    assert client.queue_remaining() == 0


@pytest.fixture
def process(tmp_path: Path):
    """Start fakes as processes; they are killed at the end."""
    started = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "promptmill.driver.testing", "--output-dir", str(tmp_path / "out")]
        scratch = {"TMPDIR": str(tmp_path), "TEMP": str(tmp_path)}  # which a killed process cannot remove
        child = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, text=True, env={**os.environ, **scratch}
        )
        started.append(child)
        return child, child.stdout.readline().strip()

    yield start
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


def test_as_a_process_it_dies_and_comes_back_with_its_files_only(
    process, tmp_path, run_graph, submit, text_to_image
):
    child, url = process("--seconds-per-job", "0.05")
    client = ComfyClient(url)
    done = run_graph(client, text_to_image())
    running = submit(client, text_to_image("again", steps=2))

    os.kill(child.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    child.wait()
    with pytest.raises(NotSent):
        submit(client, text_to_image())
    _, again = process("--port", url.rpartition(":")[2])

    assert again == url
    assert client.lookup(running).state is JobState.UNKNOWN
    assert client.fetch(done.outputs[0]) == (tmp_path / "out" / done.outputs[0].filename).read_bytes()


def test_a_job_costs_no_listing_of_the_files_made_before(fake, client, submit, text_to_image, monkeypatch):
    listed = []
    glob = Path.glob
    monkeypatch.setattr(
        Path, "glob", lambda self, *arguments: (listed.append(self), glob(self, *arguments))[1]
    )
    for n in range(50):
        submit(client, text_to_image(seed=n, steps=1, prefix=f"many/{n}"))
    fake.wait_until_idle()
    assert fake.images_made == 50
    assert listed == [fake.output_dir / "many"]
