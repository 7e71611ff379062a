"""Given an engine with a tiny checkpoint, expect what a ComfyUI client expects of ComfyUI."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import requests
import websocket
from PIL import Image

from promptmill.driver.engine import Engine
from promptmill.errors import ServerError


def kinds(frames):
    return [frame["type"] if isinstance(frame, dict) else "binary" for frame in frames]


def nodes(frames, kind):
    return [frame["data"]["node"] for frame in frames if isinstance(frame, dict) and frame["type"] == kind]


def cached(frames):
    return next(frame["data"]["nodes"] for frame in frames if frame["type"] == "execution_cached")


# --- what is remembered -----------------------------------------------------------------------------------


def test_the_same_again_is_answered_without_sampling_and_with_the_same_file(client, loader, graph):
    first = client.run(graph())
    frames = client.frames(client.submit(graph()))

    assert sorted(cached(frames)) == list("1234567")
    assert nodes(frames, "executed") == ["7"]
    assert len(loader.model.sampled) == 1
    assert client.run(graph())["outputs"] == first["outputs"]


def test_only_what_changed_runs_again_and_the_model_stays_loaded(client, loader, graph):
    client.run(graph("a cat", seed=1))

    frames = client.frames(client.submit(graph("a cat", seed=2)))

    assert sorted(cached(frames)) == list("1234")
    assert nodes(frames, "executing") == ["5", "6", "7", None]
    assert loader.clip.texts == ["a cat"]
    assert loader.loaded == ["promptmill-demo.safetensors"]


def test_a_prompt_without_a_model_in_between_does_not_unload_it(client, loader, graph):
    client.run(graph())
    empty = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}
    client.run({"1": empty, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}})
    client.run(graph(seed=2))
    assert len(loader.loaded) == 1


def test_what_only_earlier_prompts_needed_is_forgotten(client, engine, loader, graph):
    """Or a table of a thousand rows would hold a thousand pictures."""
    for seed in (1, 2, 1):
        client.run(graph(seed=seed))
    assert len(loader.model.sampled) == 3
    assert len(engine.worker.cache) == 7


@pytest.mark.parametrize("what", ["unload_models", "free_memory"])
def test_free_lets_go_of_the_model_and_of_results(client, engine, loader, graph, what):
    client.run(graph())
    assert requests.post(f"{engine.url}/free", json={what: True}).status_code == 200

    frames = client.frames(client.submit(graph()))

    assert cached(frames) == []
    assert len(loader.loaded) == len(loader.model.sampled) == 2


def test_free_while_a_prompt_runs_waits_for_its_end(client, engine, loader, graph):
    loader.model.gate.clear()
    prompt_id = client.submit(graph())
    client.hear("progress_state")
    requests.post(f"{engine.url}/free", json={"free_memory": True})
    loader.model.gate.set()
    assert "execution_success" in kinds(client.frames(prompt_id))
    client.run(graph())
    assert len(loader.loaded) == 2


# --- interruption -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [("/interrupt", {}), ("/interrupt", {"prompt_id": True}), ("/api/jobs/{id}/cancel", None)],
)
def test_an_interruption_ends_the_sampling_between_two_steps(client, engine, loader, graph, path, body):
    loader.model.gate.clear()
    prompt_id = client.submit(graph(steps=1000))
    while "5" not in nodes(client.hear("executing"), "executing"):
        pass
    body = {"prompt_id": prompt_id} if body else body
    requests.post(engine.url + path.format(id=prompt_id), json=body)
    loader.model.gate.set()

    frames = client.frames(prompt_id)

    interrupted = next(frame["data"] for frame in frames if frame["type"] == "execution_interrupted")
    assert (interrupted["node_id"], interrupted["node_type"]) == ("5", "KSampler")
    assert sorted(interrupted["executed"]) == list("1234")
    assert kinds(frames).count("progress") <= 1
    assert requests.get(f"{engine.url}/api/jobs/{prompt_id}").json()["status"] == "cancelled"
    assert client.run(graph(seed=5))["status"]["status_str"] == "success"


def test_an_interruption_of_something_else_ends_nothing(client, engine, loader, graph):
    loader.model.gate.clear()
    prompt_id = client.submit(graph())
    client.hear("executing")
    requests.post(f"{engine.url}/interrupt", json={"prompt_id": str(uuid.uuid4())})
    loader.model.gate.set()
    assert "execution_success" in kinds(client.frames(prompt_id))


# --- previews ---------------------------------------------------------------------------------------------


def test_previews_come_where_the_prompt_asks_for_them(client, graph):
    wide = graph(width=128)
    frames = client.frames(client.submit(wide, extra_data={"preview_method": "latent2rgb"}))

    previews = [frame for frame in frames if isinstance(frame, bytes)]
    assert len(previews) == 2
    assert struct.unpack(">II", previews[0][:8]) == (1, 1)
    picture = Image.open(io.BytesIO(previews[0][8:]))
    assert (picture.format, picture.size) == ("JPEG", (512, 256))
    at = frames.index(previews[0])
    assert kinds(frames[at - 2 : at]) == ["progress_state", "progress"]


def test_a_client_that_can_read_metadata_gets_it_with_the_preview(client, graph):
    client.offer(supports_preview_metadata=True)
    prompt_id = client.submit(graph(), extra_data={"preview_method": "auto"})
    frames = client.frames(prompt_id)

    preview = next(frame for frame in frames if isinstance(frame, bytes))
    event, length = struct.unpack(">II", preview[:8])
    assert event == 4
    assert json.loads(preview[8 : 8 + length]) == {
        "node_id": "5",
        "display_node_id": "5",
        "real_node_id": "5",
        "parent_node_id": None,
        "prompt_id": prompt_id,
        "image_type": "image/jpeg",
    }
    assert Image.open(io.BytesIO(preview[8 + length :])).format == "JPEG"
    at = frames.index(preview)
    assert kinds([frames[at - 1], frames[at + 1]]) == ["progress_state", "progress"]


@pytest.mark.parametrize("extra", [{}, {"preview_method": "none"}, {"preview_method": "default"}])
def test_nobody_gets_previews_without_asking(client, graph, extra):
    assert "binary" not in kinds(client.frames(client.submit(graph(), extra_data=extra)))


# --- clients ----------------------------------------------------------------------------------------------


def test_two_clients_hear_of_their_own_prompts_only(connect, graph):
    clients = connect(), connect()
    ids = [client.submit(graph(f"of {n}", prefix=f"c{n}")) for n, client in enumerate(clients)]
    for client, own in zip(clients, ids, strict=True):
        told = {frame["data"]["prompt_id"] for frame in client.frames(own) if "prompt_id" in frame["data"]}
        assert told == {own}


def test_two_clients_at_once_get_all_their_files(connect, engine, graph, tmp_path):
    def work(client, name):
        for seed in range(10):
            client.run(graph(seed=seed, prefix=f"{name}/row"))

    threads = [threading.Thread(target=work, args=(connect(), name)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = sorted(path.relative_to(tmp_path / "engine" / "output") for path in tmp_path.rglob("row_*.png"))
    assert files == [
        Path(name) / f"row_{number:05}_.png" for name in ("one", "two") for number in range(1, 11)
    ]


def test_a_client_that_never_reads_holds_up_nobody_and_is_let_go(engine, connect, graph):
    idle = websocket.create_connection(f"ws{engine.url[4:]}/ws?clientId=idle", timeout=10)
    client = connect()
    for seed in range(3):
        much = {"prompt": graph(seed=seed, steps=4000), "client_id": "idle"}
        requests.post(f"{engine.url}/prompt", json=much)

    assert client.run(graph(seed=9))["status"]["completed"]

    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        list(iter(idle.recv, None))


def test_a_client_that_comes_back_hears_which_node_runs(client, engine, loader, graph):
    loader.model.gate.clear()
    client.submit(graph())
    while "5" not in nodes(client.hear("executing"), "executing"):
        pass
    again = websocket.create_connection(f"ws{engine.url[4:]}/ws?clientId={client.id}", timeout=10)
    assert [json.loads(again.recv())["type"], json.loads(again.recv())["data"]] == ["status", {"node": "5"}]
    again.shutdown()
    loader.model.gate.set()


# --- the server itself ------------------------------------------------------------------------------------


def test_a_node_that_is_not_there_says_that_the_workflow_needs_comfyui(engine):
    reply = requests.post(
        f"{engine.url}/prompt", json={"prompt": {"1": {"class_type": "Nope", "inputs": {}}}}
    )
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (400, "missing_node_type")
    assert error["message"] == "Node 'Nope' not found. The custom node may not be installed."
    assert "run this workflow on ComfyUI" in error["details"]


def test_models_are_files_and_diffusers_folders(tmp_path, loader, client, graph):
    own, more = tmp_path / "engine/models/checkpoints", tmp_path / "more"
    for file in (own / "sub/a.safetensors", own / "b.ckpt", more / "tiny/unet/c.safetensors"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    (more / "tiny/model_index.json").write_text("{}")
    with Engine(tmp_path / "engine", models=[more], load=loader) as engine:
        info = requests.get(f"{engine.url}/object_info/CheckpointLoaderSimple").json()
        names = info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
        assert names == ["promptmill-demo.safetensors", str(Path("sub/a.safetensors")), "tiny"]
        (own / "new.safetensors").write_bytes(b"")
        body = {"prompt": graph(ckpt_name="new.safetensors")}
        assert requests.post(f"{engine.url}/prompt", json=body).status_code == 200


def test_system_stats(engine):
    stats = requests.get(f"{engine.url}/system_stats").json()
    assert stats["system"]["comfyui_version"] == "0.33.0"
    assert stats["devices"][0]["type"] in ("cpu", "cuda")


def test_a_body_over_100_mb_is_refused(engine):
    reply = requests.post(f"{engine.url}/prompt", data=b" " * (100 * 1024 * 1024 + 1))
    assert (reply.status_code, reply.text) == (413, "Maximum request body size 104857600 exceeded.")


def test_a_taken_port_is_an_error_with_a_hint(engine, tmp_path):
    port = int(engine.url.rpartition(":")[2])
    with pytest.raises(ServerError, match="cannot listen") as caught:
        Engine(tmp_path, port=port).start()
    assert "--port" in caught.value.hint


def test_it_listens_before_torch_is_imported(tmp_path):
    code = """if True:
        import sys, threading
        from pathlib import Path
        from promptmill.driver.engine import Engine
        assert "torch" not in sys.modules
        seen = []
        engine = Engine(Path(sys.argv[1]))
        engine.worker.start = lambda: seen.append("torch" in sys.modules)
        with engine:
            assert not {"torch", "diffusers", "transformers"} & set(sys.modules)
        print(seen)
    """
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[False]\n", done.stderr


def test_serve_blocks_until_it_is_stopped_and_temporary_files_go(tmp_path, loader):
    leftover = tmp_path / "temp" / "old.png"
    leftover.parent.mkdir()
    leftover.write_bytes(b"")
    engine, addresses = Engine(tmp_path, load=loader), []
    thread = threading.Thread(target=engine.serve, args=(addresses.append,))
    thread.start()
    while not addresses:
        pass
    assert requests.get(f"{addresses[0]}/prompt").json() == {"exec_info": {"queue_remaining": 0}}
    engine.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert not leftover.exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(addresses[0])
