"""The same scenarios against a real ComfyUI, the fake and the engine: neither may be kinder or stricter."""

from __future__ import annotations

import io
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import websocket
from PIL import Image

from promptmill.driver.comfy import ComfyClient, EventKind, ImageMissing, ImageRef, JobState, Rejected
from promptmill.driver.protocol.catalogue import UPSCALE_METHODS
from promptmill.driver.testing import FakeComfy, object_info


@pytest.fixture(params=["fake", "engine", pytest.param("real", marks=pytest.mark.comfyui)])
def server(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def url(request: pytest.FixtureRequest, server: str) -> str:
    if server == "fake":
        return request.getfixturevalue("fake").url
    return request.getfixturevalue("engine" if server == "engine" else "real_comfy")


@pytest.fixture
def output_folder(request: pytest.FixtureRequest, server: str) -> Path:
    if server == "fake":
        return request.getfixturevalue("fake").output_dir
    return request.getfixturevalue("engine_base" if server == "engine" else "real_base") / "output"


@pytest.fixture
def client(url: str) -> ComfyClient:
    return ComfyClient(url)


@pytest.fixture
def prefix() -> str:
    return f"contract/{uuid.uuid4().hex}"


@pytest.fixture
def socket_of(url: str) -> Any:
    """A raw websocket and its first message."""
    opened = []

    def connect(client_id: str) -> websocket.WebSocket:
        connection = websocket.create_connection(f"ws{url[4:]}/ws?clientId={client_id}", timeout=60)
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.shutdown()


def messages_of(connection: websocket.WebSocket, prompt_id: str) -> list[dict[str, Any]]:
    """All messages up to the closing one of a prompt."""
    messages = [json.loads(connection.recv())]
    while messages[-1]["data"] != {"node": None, "prompt_id": prompt_id}:
        messages.append(json.loads(connection.recv()))
    return messages


def queue_lengths(messages: list[dict[str, Any]]) -> list[int]:
    return [m["data"]["status"]["exec_info"]["queue_remaining"] for m in messages if m["type"] == "status"]


def test_a_prompt_is_told_in_this_order(client, url, socket_of, blank, prefix):
    client_id, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
    connection = socket_of(client_id)
    hello = json.loads(connection.recv())
    assert hello == {
        "type": "status",
        "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client_id},
    }

    client.submit(prompt_id, blank(prefix, batch_size=2), client_id=client_id)
    messages = messages_of(connection, prompt_id)

    told = [m for m in messages if m["type"] != "status"]
    assert [m["type"] for m in told] == [
        "execution_start",
        "execution_cached",
        "progress_state",
        "executing",
        "progress_state",
        "progress_state",
        "executing",
        "executed",
        "progress_state",
        "execution_success",
        "executing",
    ]
    assert messages[-2]["type"] == "status", (
        "history is written between execution_success and the closing message"
    )
    assert queue_lengths(messages)[-1] == 0
    assert [m["data"]["node"] for m in told if m["type"] == "executing"] == ["1", "2", None]
    folder, name = prefix.split("/")
    files = [{"filename": f"{name}_0000{n}_.png", "subfolder": folder, "type": "output"} for n in (1, 2)]
    output = {"node": "2", "display_node": "2", "output": {"images": files}, "prompt_id": prompt_id}
    assert next(m["data"] for m in told if m["type"] == "executed") == output
    assert set(told[0]["data"]) == {"prompt_id", "timestamp"}
    assert told[1]["data"]["nodes"] == []
    assert told[2]["data"]["nodes"]["1"] == {
        "value": 0.0,
        "max": 1.0,
        "state": "running",
        "node_id": "1",
        "prompt_id": prompt_id,
        "display_node_id": "1",
        "parent_node_id": None,
        "real_node_id": "1",
    }

    # and the same again is answered from the cache, with the old names
    again = str(uuid.uuid4())
    client.submit(again, blank(prefix, batch_size=2), client_id=client_id)
    told = [m for m in messages_of(connection, again) if m["type"] != "status"]
    assert [m["type"] for m in told] == [
        "execution_start",
        "execution_cached",
        "executed",
        "progress_state",
        "execution_success",
        "executing",
    ]
    assert sorted(told[1]["data"]["nodes"]) == ["1", "2"]
    assert told[2]["data"] == {**output, "prompt_id": again}


def shape(value: Any) -> Any:
    """Keys and types, without the values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


@pytest.mark.comfyui
def test_jobs_history_and_replies_have_the_real_shapes(fake, engine, real_comfy, blank, until):
    prompt_id, graph = str(uuid.uuid4()), blank(f"shape/{uuid.uuid4().hex}")
    seen: dict[str, list[Any]] = {}
    for url in (real_comfy, fake.url, engine):
        workflow = {"id": "a workflow", "nodes": []}
        body = {
            "prompt": graph,
            "prompt_id": prompt_id,
            "extra_data": {"extra_pnginfo": {"workflow": workflow}},
        }
        answers = [requests.post(f"{url}/prompt", json=body)]
        until(lambda url=url: requests.get(f"{url}/prompt").json()["exec_info"]["queue_remaining"] == 0)
        for path in (f"/api/jobs/{prompt_id}", f"/history/{prompt_id}", "/queue", "/api/jobs?limit=1"):
            answers.append(requests.get(url + path))
        seen[url] = [shape(answer.json()) for answer in answers]
        seen[url][-1]["pagination"]["has_more"] = "bool"
        assert all(answer.headers["Content-Type"] == "application/json; charset=utf-8" for answer in answers)

    assert seen[fake.url] == seen[real_comfy]
    assert seen[engine] == seen[real_comfy]


@pytest.mark.comfyui
@pytest.mark.parametrize("ours", ["fake", "engine"])
def test_node_classes_have_the_real_inputs_limits_and_outputs(ours, engine, real_comfy):
    real = ComfyClient(real_comfy).object_info()
    classes = object_info() if ours == "fake" else ComfyClient(engine).object_info()
    for name, node in classes.items():
        theirs = real[name]
        same = ("output", "output_is_list", "output_name", "output_node", "is_input_list", "input_order")
        assert {key: node[key] for key in same} == {key: theirs[key] for key in same}, name
        for field, (kind, *limits) in node["input"]["required"].items():
            their_kind, *their_limits = theirs["input"]["required"][field]
            assert type(kind) is type(their_kind), (name, field)
            if isinstance(kind, str):
                assert kind == their_kind
            elif field not in ("ckpt_name", "image"):
                assert kind
                assert set(kind) <= set(their_kind), (name, field)
            for key, value in (limits[0] if limits else {}).items():
                assert their_limits[0][key] == value, (name, field, key)
            for key in ("min", "max", "default"):
                assert (limits or [{}])[0].get(key) == (their_limits or [{}])[0].get(key), (name, field, key)


def test_requests_for_what_is_not_there(url):
    nothing = str(uuid.uuid4())
    for method, path, status, kind, body in [
        ("GET", "/nothing", 404, None, b""),
        ("POST", "/nothing", 405, "text/plain; charset=utf-8", b"405: Method Not Allowed"),
        ("GET", f"/jobs/{nothing}", 404, None, b""),
        (
            "GET",
            f"/api/jobs/{nothing}",
            404,
            "application/json; charset=utf-8",
            b'{"error": "Job not found"}',
        ),
        (
            "POST",
            f"/api/jobs/{nothing}/cancel",
            200,
            "application/json; charset=utf-8",
            b'{"cancelled": false}',
        ),
        ("GET", f"/history/{nothing}", 200, "application/json; charset=utf-8", b"{}"),
        ("GET", f"/api/history/{nothing}", 200, "application/json; charset=utf-8", b"{}"),
        ("GET", "/view", 404, None, b""),
        ("GET", "/view?filename=none.png", 404, None, b""),
        ("GET", "/view?filename=../none.png", 400, None, b""),
        ("GET", "/view?filename=none.png&subfolder=../..", 403, None, b""),
        ("GET", "/view?filename=none.png&type=nonsense", 400, None, b""),
        ("POST", "/upload/image", 400, None, b""),
    ]:
        reply = requests.request(method, url + path)
        assert (reply.status_code, reply.content) == (status, body), (method, path)
        assert kind in (None, reply.headers.get("Content-Type"))


EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}}
CHECKPOINT = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "nope.safetensors"}}
FAILED = "prompt_outputs_failed_validation"
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "refused"}}


def broken(**inputs: Any) -> dict[str, Any]:
    return {"1": {**EMPTY, "inputs": {**EMPTY["inputs"], **inputs}}, "2": SAVE}


def scaled(source: str) -> dict[str, Any]:
    how = {"upscale_method": "area", "width": 8, "height": 8, "crop": "disabled"}
    return {"class_type": "ImageScale", "inputs": {"image": [source, 0], **how}}


@pytest.mark.parametrize(
    ("prompt", "kind", "node_kinds"),
    [
        ({}, "prompt_no_outputs", {}),
        ({"1": EMPTY}, "prompt_no_outputs", {}),
        ({"1": {"class_type": "Nope", "inputs": {}}}, "missing_node_type", {}),
        ({"1": {"inputs": {}}}, "missing_node_type", {}),
        (broken(width=0), FAILED, {"1": ["value_smaller_than_min"]}),
        (broken(width=10**6), FAILED, {"1": ["value_bigger_than_max"]}),
        (broken(width="wide"), FAILED, {"1": ["invalid_input_type"]}),
        (broken(width=["1"]), FAILED, {"1": ["bad_linked_input"]}),
        (
            {
                "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
                "2": SAVE,
            },
            FAILED,
            {"1": ["required_input_missing"]},
        ),
        ({"2": SAVE}, FAILED, {"2": ["exception_during_validation"]}),
        (
            {
                "1": {"class_type": "LoadImage", "inputs": {"image": "missing.png"}},
                "2": SAVE,
            },
            FAILED,
            {"1": ["custom_validation_failed"]},
        ),
        (
            {"1": {"class_type": "LoadImage", "inputs": {"image": "../missing.png"}}, "2": SAVE},
            FAILED,
            {"1": ["custom_validation_failed"]},
        ),
        ({"1": CHECKPOINT, "2": SAVE}, FAILED, {"2": ["return_type_mismatch"]}),
        (
            {
                "0": CHECKPOINT,
                "3": {
                    "class_type": "EmptyLatentImage",
                    "inputs": {"width": 64, "height": 64, "batch_size": 1},
                },
                "1": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["0", 2]}},
                "2": SAVE,
            },
            FAILED,
            {"0": ["value_not_in_list"]},
        ),
        (broken(width=float("inf")), FAILED, {"1": ["invalid_input_type"]}),
        (broken(width=None, color=-1), FAILED, {"1": ["invalid_input_type", "value_smaller_than_min"]}),
        (broken(width=["2", 0]), FAILED, {"1": ["return_type_mismatch"]}),
        ({"1": scaled("3"), "2": SAVE}, FAILED, {"1": ["exception_during_inner_validation"]}),
        (
            {"1": scaled("3"), "3": scaled("1"), "2": SAVE},
            FAILED,
            {"1": ["dependency_cycle"], "3": ["dependency_cycle"]},
        ),
        ({"1": EMPTY, "2": {"class_type": "SaveImage"}}, FAILED, {"2": ["exception_during_validation"]}),
        ({"1": EMPTY, "2": SAVE, "_meta": {}}, "missing_node_type", {}),
    ],
)
def test_refusals(url, prompt, kind, node_kinds):
    reply = requests.post(f"{url}/prompt", data=json.dumps({"prompt": prompt}))

    assert reply.status_code == 400
    error = reply.json()["error"]
    assert set(error) == {"type", "message", "details", "extra_info"}
    assert error["type"] == kind
    node_errors = reply.json()["node_errors"]
    assert {
        node: sorted(error["type"] for error in found["errors"]) for node, found in node_errors.items()
    } == node_kinds
    for found in node_errors.values():
        assert found["dependent_outputs"] == ["2"]
        assert set(found) == {"errors", "dependent_outputs", "class_type"}
        assert all(set(error) == {"type", "message", "details", "extra_info"} for error in found["errors"])
    if "Infinity" in reply.text:
        return
    with pytest.raises(Rejected) as caught:
        ComfyClient(url).submit(str(uuid.uuid4()), prompt, client_id=None)
    assert all(f"node {node} (" in "; ".join(caught.value.errors) for node in node_kinds)
    assert caught.value.errors[0]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{}", 400, "no_prompt"),
        (b'{"prompt": {}, "prompt_id": "3F2504E0-4F89-11D3-9A0C-0305E82C3301"}', 400, "invalid_prompt_id"),
        (b"{nonsense", 500, None),
        (b'{"prompt": {"last_node_id": 3, "nodes": [], "links": []}}', 500, None),
        (b'{"prompt": null}', 500, None),
    ],
)
def test_bodies_that_are_no_prompt(url, body, status, kind):
    reply = requests.post(f"{url}/prompt", data=body)

    assert reply.status_code == status
    if kind:
        assert reply.json()["error"]["type"] == kind
    else:
        assert reply.text == "500 Internal Server Error\n\nServer got itself in trouble"


def test_a_prompt_accepted_without_some_of_its_outputs_is_rejected(client, blank, prefix, until):
    graph = {**blank(prefix), "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}
    assert requests.post(f"{client.url}/prompt", json={"prompt": graph}).status_code == 200
    with pytest.raises(Rejected, match=r"node 3 \(SaveImage\): Required input is missing: filename_prefix"):
        client.submit(str(uuid.uuid4()), graph, client_id=None)


def test_the_client_reads_a_finished_prompt(client, run_graph, blank, prefix):
    found = run_graph(client, blank(prefix, batch_size=2))

    assert found.state is JobState.DONE
    folder, name = prefix.split("/")
    assert found.outputs == tuple(ImageRef(f"{name}_0000{n}_.png", folder, "output", "2") for n in (1, 2))
    assert not found.other_outputs
    assert found.error is None
    assert found.started
    assert found.seconds is not None
    picture = Image.open(io.BytesIO(client.fetch(found.outputs[0])))
    assert (picture.size, picture.mode, picture.getpixel((0, 0))) == ((64, 64), "RGB", (0, 0, 255))
    assert json.loads(picture.info["prompt"]) == blank(prefix, batch_size=2)
    assert "workflow" not in picture.info
    with pytest.raises(ImageMissing):
        client.fetch(ImageRef("none.png", folder, "output", "2"))


def test_the_workflow_is_embedded(client, blank, prefix, finish):
    prompt_id, workflow = str(uuid.uuid4()), {"id": "x", "nodes": [], "说明": "提示词"}
    client.submit(prompt_id, blank(prefix), client_id=None, extra={"workflow": workflow})

    picture = Image.open(io.BytesIO(client.fetch(finish(client, prompt_id).outputs[0])))
    assert json.loads(picture.info["workflow"]) == workflow


def test_previews_are_outputs_only_where_nothing_is_saved(client, run_graph, blank, prefix):
    preview = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    both = run_graph(client, {**blank(prefix), "3": preview})
    alone = run_graph(client, {"1": blank(prefix)["1"], "3": preview})

    assert [(image.node_id, image.type) for image in both.outputs] == [("2", "output")]
    assert [(image.node_id, image.type) for image in alone.outputs] == [("3", "temp")]
    assert Image.open(io.BytesIO(client.fetch(alone.outputs[0]))).size == (64, 64)


def test_upload_gives_a_new_name_on_collision(client, tmp_path):
    folder = uuid.uuid4().hex
    for content, name in [
        (b"1\r\n\r\n--\x00", "猫.png"),
        (b"1\r\n\r\n--\x00", "猫.png"),
        (b"2", "猫 (1).png"),
    ]:
        (tmp_path / "猫.png").write_bytes(content)
        assert client.upload_image(tmp_path / "猫.png", subfolder=folder) == f"{folder}/{name}"
        assert client.fetch(ImageRef(name, folder, "input", "")) == content
    assert client.upload_image(tmp_path / "猫.png", subfolder=folder, overwrite=True) == f"{folder}/猫.png"
    assert client.fetch(ImageRef("猫.png", folder, "input", "")) == b"2"


def test_a_reused_client_id_goes_deaf_when_its_first_connection_closes(
    server, client, socket_of, blank, prefix, submit, until
):
    """The one trap that the engine does not set."""
    client_id = uuid.uuid4().hex
    first = socket_of(client_id)
    first.recv()
    second = socket_of(client_id)
    second.recv()
    first.close()
    second.settimeout(0.5)

    def hears_nothing_of_a_prompt() -> bool:
        submit(client, blank(prefix), client_id)
        until(lambda: client.queue_remaining() == 0)
        try:
            second.recv()
        except websocket.WebSocketTimeoutException:
            return True
        return False

    if server == "engine":
        assert not hears_nothing_of_a_prompt()
    else:
        until(hears_nothing_of_a_prompt)


def test_the_server_does_not_dedupe(client, blank, prefix, until):
    prompt_id = str(uuid.uuid4())
    for n in range(3):
        client.submit(prompt_id, blank(f"{prefix}-{n}"), client_id=None)
    until(lambda: client.queue_remaining() == 0)

    folder, name = prefix.split("/")
    for n in range(3):
        assert client.fetch(ImageRef(f"{name}-{n}_00001_.png", folder, "output", "2"))
    assert len(client.lookup(prompt_id).outputs) == 1


def slow(prefix: str) -> dict[str, Any]:
    """Many savers, a fraction of a second each on a real server: an interruption acts between two nodes."""
    image = {"width": 1024, "height": 1024, "batch_size": 4, "color": 7}
    saver = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    savers = {
        str(n): {**saver, "inputs": {**saver["inputs"], "filename_prefix": f"{prefix}-{n}"}}
        for n in range(2, 40)
    }
    return {"1": {"class_type": "EmptyImage", "inputs": image}, **savers}


def test_cancel_ends_ours_and_nothing_else(
    server, client, url, request, listen, blank, prefix, submit, until
):
    if server == "fake":
        fake: FakeComfy = request.getfixturevalue("fake")
        fake.on_prompt(times=1).delay(60)
    ears = listen(url)
    running = submit(client, slow(prefix), ears.stream.client_id)
    waiting, theirs = (submit(client, blank(f"{prefix}-{name}")) for name in ("waiting", "theirs"))
    ears.next(EventKind.STARTED)
    assert client.lookup(running).state is JobState.RUNNING
    assert client.lookup(waiting).state is JobState.PENDING
    assert client.queue().running == {running}
    assert client.queue().pending == {waiting, theirs}

    client.cancel(waiting)
    client.cancel(running)

    assert ears.next(EventKind.INTERRUPTED).prompt_id == running
    until(lambda: client.queue_remaining() == 0)
    assert client.lookup(running).state is JobState.CANCELLED
    assert client.lookup(waiting).state is JobState.UNKNOWN
    assert client.lookup(theirs).state is JobState.DONE
    client.cancel(theirs)
    client.cancel(str(uuid.uuid4()))
    assert client.lookup(theirs).state is JobState.DONE
    client.free()


def test_the_stream_of_a_prompt(client, url, listen, blank, prefix, submit):
    ears = listen(url)
    prompt_id = submit(client, blank(prefix), ears.stream.client_id)

    events = [event for event in ears.upto(EventKind.FINISHED) if event.kind is not EventKind.QUEUE]

    assert [event.kind for event in events] == [
        EventKind.STARTED,
        EventKind.PROGRESS,
        EventKind.PROGRESS,
        EventKind.EXECUTED,
        EventKind.FINISHED,
    ]
    assert {event.prompt_id for event in events} == {prompt_id}
    assert events[3].data == client.lookup(prompt_id).outputs, (
        "when it is told to be finished, history has it"
    )
    assert not set(ears.stream.counters) - {"events", "connections"}


def told_of(connection: websocket.WebSocket, prompt_id: str, kind: str) -> list[dict[str, Any]]:
    return [m["data"] for m in messages_of(connection, prompt_id) if m["type"] == kind]


def test_only_what_changed_runs_again(client, socket_of, prefix, submit, tmp_path):
    """Given LoadImage -> ImageScale -> SaveImage, when its file changes, expect all to run; or else what changed."""
    client_id = uuid.uuid4().hex
    connection = socket_of(client_id)
    connection.recv()
    picture = tmp_path / f"{uuid.uuid4().hex}.png"

    def cached(color: str, width: int) -> list[str]:
        Image.new("RGB", (8, 8), color).save(picture)
        client.upload_image(picture, overwrite=True)
        scale = scaled("1")
        scale["inputs"]["width"] = width
        load = {"class_type": "LoadImage", "inputs": {"image": picture.name}}
        save = {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}}
        prompt_id = submit(client, {"1": load, "2": scale, "3": save}, client_id)
        return sorted(told_of(connection, prompt_id, "execution_cached")[0]["nodes"])

    assert cached("red", 16) == []
    assert cached("red", 16) == ["1", "2", "3"]
    assert cached("red", 24) == ["1"]
    assert cached("blue", 24) == []


def test_equal_nodes_run_once(client, socket_of, blank, prefix, submit):
    client_id = uuid.uuid4().hex
    connection = socket_of(client_id)
    connection.recv()
    graph = blank(prefix)
    graph["3"] = json.loads(json.dumps(graph["2"]))

    prompt_id = submit(client, graph, client_id)

    executed = told_of(connection, prompt_id, "executed")
    assert sorted(data["node"] for data in executed) == ["2", "3"]
    assert executed[0]["output"] == executed[1]["output"]


def test_a_prompt_without_a_client_tells_everybody_how_far_it_is(client, socket_of, blank, prefix, submit):
    connection = socket_of(uuid.uuid4().hex)
    connection.recv()
    prompt_id = submit(client, blank(prefix))
    kinds = []
    while "progress_state" not in kinds:
        message = json.loads(connection.recv())
        kinds.append(message["type"])
    assert set(kinds) == {"status", "progress_state"}
    assert message["data"]["prompt_id"] == prompt_id


def test_what_a_client_can_do_is_answered_with_what_the_server_can_do(url, socket_of):
    connection = socket_of(uuid.uuid4().hex)
    connection.recv()
    connection.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
    answer = json.loads(connection.recv())
    features = requests.get(f"{url}/features").json()
    assert (answer["type"], answer["data"]) == ("feature_flags", features)
    assert features["supports_preview_metadata"] is True
    assert features["max_upload_size"] == 100 * 1024 * 1024


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Origin": "http://evil.example", "Host": "gpu.example"}, 200),
        ({}, 200),
    ],
)
def test_other_websites_are_refused(url, headers, status):
    port = url.rpartition(":")[2]
    headers = {name: value.format(port=port) for name, value in headers.items()}
    assert requests.get(f"{url}/prompt", headers=headers).status_code == status
    if status == 403:
        assert requests.get(f"{url}/prompt", headers=headers).content == b""
        given = [f"{name}: {value}" for name, value in headers.items()]
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            websocket.create_connection(f"ws{url[4:]}/ws", header=given, suppress_origin=True, timeout=60)


def test_heads_and_preflights(url):
    assert (requests.options(f"{url}/prompt").status_code, requests.options(url).content) == (200, b"")
    head = requests.head(f"{url}/prompt")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) > 20


def test_a_node_that_fails_is_told_and_the_next_prompt_works(client, url, socket_of, blank, prefix, finish):
    client_id, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
    connection = socket_of(client_id)
    connection.recv()
    client.submit(prompt_id, blank("../outside", size=17), client_id=client_id)

    told = told_of(connection, prompt_id, "execution_error")[0]

    assert (told["node_id"], told["node_type"], told["executed"]) == ("2", "SaveImage", ["1"])
    assert "Saving image outside the output folder is not allowed" in told["exception_message"]
    assert set(told) == {
        *("prompt_id", "timestamp", "node_id", "node_type", "executed", "exception_message"),
        *("exception_type", "traceback", "current_inputs", "current_outputs"),
    }
    assert client.lookup(prompt_id).state is JobState.FAILED
    again = str(uuid.uuid4())
    client.submit(again, blank(prefix), client_id=None)
    assert finish(client, again).state is JobState.DONE


def test_a_prefix_may_name_the_size_and_the_number_in_the_batch(client, run_graph, blank, prefix):
    names = [
        image.filename
        for image in run_graph(client, blank(f"{prefix}-%width%x%height%-%batch_num%", batch_size=2)).outputs
    ]
    assert [name.partition("-")[2] for name in names] == ["64x64-0_00001_.png", "64x64-1_00002_.png"]


def pictures() -> dict[str, bytes]:
    """One file of each kind that LoadImage meets."""
    x, y = np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 255, 32))
    rgb = Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(y.astype(np.uint8)))
    made: dict[str, Any] = {
        "rgb.png": (rgb, {}),
        "turned.jpg": (rgb, {"exif": exif, "quality": 95, "subsampling": 0}),
        "alpha.png": (rgba, {}),
        "grey.png": (rgb.convert("L"), {}),
        "deep.png": (Image.fromarray((x * 257).astype(np.uint16)), {}),
        "palette.png": (rgb.quantize(16), {}),
        "lossless.webp": (rgb, {"lossless": True}),
    }
    files = {}
    for name, (picture, options) in made.items():
        buffer = io.BytesIO()
        picture.save(buffer, name.rpartition(".")[2].replace("jpg", "jpeg"), **options)
        files[name] = buffer.getvalue()
    return files


@pytest.mark.comfyui
@pytest.mark.parametrize(
    ("name", "method", "crop"),
    [
        *((name, None, None) for name in pictures()),
        *(("rgb.png", method, "center") for method in UPSCALE_METHODS),
        ("rgb.png", "area", "disabled"),
    ],
)
def test_the_engine_reads_and_scales_pictures_as_the_real_one(
    engine, real_comfy, run_graph, prefix, tmp_path, name, method, crop
):
    """Masks are not compared: no node here shows one."""
    (tmp_path / name).write_bytes(pictures()[name])
    seen = []
    for url in (engine, real_comfy):
        client = ComfyClient(url)
        client.upload_image(tmp_path / name, overwrite=True)
        graph: dict[str, Any] = {"1": {"class_type": "LoadImage", "inputs": {"image": name}}}
        if method:
            graph["2"] = scaled("1")
            how = {"width": 20, "height": 30, "upscale_method": method}
            graph["2"]["inputs"] |= {**how, "crop": crop}
        graph["3"] = {
            "class_type": "SaveImage",
            "inputs": {"images": ["2" if method else "1", 0], "filename_prefix": prefix},
        }
        found = run_graph(client, graph)
        seen.append(
            [np.asarray(Image.open(io.BytesIO(client.fetch(it)))).astype(int) for it in found.outputs]
        )
    assert len(seen[0]) == len(seen[1]) == 1
    assert seen[0][0].shape == seen[1][0].shape
    assert np.abs(seen[0][0] - seen[1][0]).max() <= 2


@pytest.mark.parametrize("odd", [["zz", "b"], [1, 2], [["a"], 2]])
def test_an_undeclared_input_may_hold_anything(
    client: ComfyClient, blank: Any, run_graph: Any, prefix: str, odd: list[Any]
) -> None:
    graph = blank(prefix)
    graph["2"]["inputs"]["extra"] = odd

    found = [run_graph(client, graph), run_graph(client, blank(f"{prefix}_next"))]

    assert [one.state for one in found] == [JobState.DONE] * 2


def test_an_undeclared_cycle_fails_and_the_next_prompt_works(
    client: ComfyClient, blank: Any, run_graph: Any, prefix: str
) -> None:
    graph = blank(prefix)
    graph["1"]["inputs"]["loop"] = ["2", 0]

    found = [run_graph(client, graph), run_graph(client, blank(f"{prefix}_next"))]

    assert [one.state for one in found] == [JobState.FAILED, JobState.DONE]


def test_an_output_folder_that_went_away_is_made_again(
    client: ComfyClient, blank: Any, run_graph: Any, output_folder: Any, prefix: str
) -> None:
    run_graph(client, blank(prefix, size=64))
    shutil.rmtree(output_folder / "contract")

    again = run_graph(client, blank(prefix, size=72))

    assert again.state is JobState.DONE
    assert (output_folder / again.outputs[0].subfolder / again.outputs[0].filename).is_file()


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_nothing_is_saved_through_a_link_that_leads_out(
    client: ComfyClient, blank: Any, run_graph: Any, output_folder: Any, tmp_path: Any
) -> None:
    link = output_folder / uuid.uuid4().hex
    link.symlink_to(tmp_path)

    found = run_graph(client, blank(f"{link.name}/x"))

    assert found.state is JobState.FAILED
    assert list(tmp_path.iterdir()) == []


def test_an_empty_prefix_is_a_name_too(client: ComfyClient, blank: Any, run_graph: Any) -> None:
    found = run_graph(client, blank(""))

    assert found.state is JobState.DONE
    assert found.outputs[0].filename.startswith("._")
