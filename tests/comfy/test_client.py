"""Each trap of the HTTP side is handled, or cannot be stepped into."""

from __future__ import annotations

import io
import json
import socket
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from promptmill.driver.comfy import (
    Ambiguous,
    ComfyClient,
    ExecutionError,
    ImageMissing,
    ImageRef,
    JobState,
    NotSent,
    Rejected,
    ServerGone,
    ServerTrouble,
)
from promptmill.driver.testing import FakeComfy, Reply, lies
from promptmill.errors import ServerError


def new_id() -> str:
    return str(uuid.uuid4())


def put(client: ComfyClient, graph: dict[str, Any], **more: Any) -> str:
    prompt_id = new_id()
    client.submit(prompt_id, graph, **{"client_id": None, **more})
    return prompt_id


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8188/", "http://127.0.0.1:8188"),
        ("127.0.0.1:8188", "http://127.0.0.1:8188"),
        (" localhost:8188 ", "http://localhost:8188"),
        ("https://gpu.example/comfy/", "https://gpu.example/comfy"),
        ("[::1]:8188", "http://[::1]:8188"),
    ],
)
def test_addresses_are_normalised(given, url):
    assert ComfyClient(given).url == url


@pytest.mark.parametrize(
    "given",
    [
        "",
        "http://",
        "ftp://host",
        "host:port",
        "host:99999",
        "host:0",
        "a b",
        "http://host/?x=1",
        "http://[::1",
    ],
)
def test_a_bad_address_is_an_error_with_a_hint(given):
    with pytest.raises(ServerError) as caught:
        ComfyClient(given)
    assert caught.value.value == given
    assert "--server http" in caught.value.hint


# --- submit -----------------------------------------------------------------------------------------------


def test_a_post_holds_our_id_and_nothing_that_is_dangerous(fake, client, text_to_image):
    prompt_id = put(client, text_to_image(seed=2**64 - 1))

    body = fake.posts[0].body
    assert body == {"prompt": text_to_image(seed=2**64 - 1), "prompt_id": prompt_id}, (
        "no number, no null workflow"
    )
    fake.wait_until_idle()
    picture = Image.open(io.BytesIO(client.fetch(client.lookup(prompt_id).outputs[0])))
    assert json.loads(picture.info["prompt"])["5"]["inputs"]["seed"] == 2**64 - 1


def test_client_and_workflow_are_sent_where_there_are_some(fake, client, text_to_image):
    put(client, text_to_image(), client_id="me", extra={"workflow": {"nodes": []}})

    assert fake.posts[0].body["client_id"] == "me"
    assert fake.posts[0].body["extra_data"] == {"extra_pnginfo": {"workflow": {"nodes": []}}}


def test_a_null_workflow_from_someone_else_breaks_the_route_but_not_the_lookup(fake, client, text_to_image):
    theirs = new_id()
    body = {
        "prompt": text_to_image(),
        "prompt_id": theirs,
        "extra_data": {"extra_pnginfo": {"workflow": None}},
    }
    client._http.post_once("/prompt", body)
    fake.wait_until_idle()

    assert client._http.ask("GET", f"/api/jobs/{theirs}").status_code == 500
    assert client.lookup(theirs).state is JobState.DONE


def test_refused_connections_say_that_nothing_was_sent(fake, client, text_to_image):
    fake.kill()
    with pytest.raises(NotSent) as caught:
        put(client, text_to_image())
    assert "refused" in str(caught.value)
    assert fake.url in str(caught.value)
    with pytest.raises(NotSent):
        put(ComfyClient("http://no-such-host.invalid:8188"), text_to_image())


def test_a_lost_reply_is_ambiguous_and_the_prompt_is_found_by_its_id(fake, client, text_to_image):
    fake.on_post(times=1).lose_reply()
    prompt_id = new_id()
    with pytest.raises(Ambiguous):
        client.submit(prompt_id, text_to_image(), client_id=None)

    fake.wait_until_idle()
    assert client.lookup(prompt_id).state is JobState.DONE
    assert len(fake.posts) == 1, "a POST is never repeated by itself"


@pytest.mark.parametrize(
    "misbehave",
    [
        lambda on_post: on_post.refuse(),
        lambda on_post: on_post.hang(),
        lambda on_post: on_post.answer(b"Bad Gateway", status=502),
        lambda on_post: on_post.answer(b"500 Internal Server Error", status=500),
        lambda on_post: on_post.answer(b"<html>welcome</html>"),
        lambda on_post: on_post.answer(b'{"exec_info": {"queue_remaining": 0}}'),
        lambda on_post: on_post.break_off(10),
    ],
)
def test_whatever_may_have_arrived_is_ambiguous_and_sent_once(fake, text_to_image, misbehave):
    rule = misbehave(fake.on_post())
    with pytest.raises(Ambiguous):
        put(ComfyClient(fake.url, timeout=2), text_to_image())
    assert rule.fired == 1


def test_a_post_that_arrives_after_the_lookup_is_still_found_later(fake, client, text_to_image, until):
    under_way: list[Any] = []
    fake.on_post(times=1).do(lambda request, proceed: under_way.append(proceed))
    prompt_id = new_id()
    with pytest.raises(Ambiguous):
        client.submit(prompt_id, text_to_image(), client_id=None)

    assert client.lookup(prompt_id).state is JobState.UNKNOWN
    under_way[0]()
    until(lambda: client.lookup(prompt_id).state is JobState.DONE)


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_door_that_is_shut_is_the_servers_trouble_and_nothing_is_queued(
    fake, client, text_to_image, status
):
    fake.on_post().answer(b"no", status=status)
    with pytest.raises(ServerTrouble, match=str(status)):
        put(client, text_to_image())


def test_a_redirect_is_not_followed_because_it_would_turn_the_post_into_a_get(fake, client, text_to_image):
    elsewhere = {"Location": "https://gpu.example/prompt"}
    fake.on_request().do(lambda request, proceed: Reply(302, headers=elsewhere))
    with pytest.raises(ServerTrouble) as caught:
        put(client, text_to_image())
    assert caught.value.hint == "use --server https://gpu.example/prompt"


def test_a_body_that_is_too_large_is_the_prompts_fault(fake, client, text_to_image):
    fake.on_post().answer(
        b"Maximum request body size 104857600 exceeded", status=413, content_type="text/plain"
    )
    with pytest.raises(Rejected, match="413 Maximum request body size"):
        put(client, text_to_image())


def test_errors_are_readable_for_each_node(fake, client, text_to_image):
    graph = text_to_image(seed=-1)
    graph["1"]["inputs"]["ckpt_name"] = "model_c.safetensors"
    with pytest.raises(Rejected) as caught:
        put(client, graph)

    assert set(caught.value.errors) == {
        "node 1 (CheckpointLoaderSimple): Value not in list: ckpt_name: 'model_c.safetensors' not in "
        "['model_a.safetensors', 'model_b.safetensors']",
        "node 5 (KSampler): Value -1 smaller than min of 0: seed",
    }
    assert caught.value.raw["error"]["type"] == "prompt_outputs_failed_validation"
    with pytest.raises(Rejected, match="Node 'Nope' not found"):
        put(client, {"1": {"class_type": "Nope", "inputs": {}}})
    assert not fake.posts


def test_a_prompt_queued_without_one_of_its_outputs_is_cancelled(fake, client, text_to_image, until):
    fake.on_prompt("first", times=1).delay(60)
    first = put(client, text_to_image("first"))
    until(lambda: client.lookup(first).state is JobState.RUNNING)
    graph = {**text_to_image("second"), "8": {"class_type": "SaveImage", "inputs": {"images": ["6", 0]}}}
    prompt_id = new_id()

    with pytest.raises(Rejected, match=r"node 8 \(SaveImage\): Required input is missing"):
        client.submit(prompt_id, graph, client_id=None)

    assert len(fake.posts) == 2, "it was accepted"
    assert client.lookup(prompt_id).state is JobState.UNKNOWN
    assert client.lookup(first).state is JobState.RUNNING


def test_a_server_that_ignores_our_ids_is_not_used(text_to_image):
    with FakeComfy(own_ids=True) as fake:
        fake.on_prompt("first", times=1).delay(60)
        client = ComfyClient(fake.url)
        client._http.post_once("/prompt", {"prompt": text_to_image("first")})
        with pytest.raises(ServerTrouble, match="ids of its own"):
            put(client, text_to_image())
        assert client.lookup(fake.posts[1].prompt_id).state is JobState.UNKNOWN, "it was cancelled"


# --- lookup -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs_route", [True, False])
def test_every_state_is_told_apart_also_by_an_older_server(text_to_image, jobs_route, until):
    with FakeComfy(jobs_route=jobs_route) as fake:
        client = ComfyClient(fake.url)
        fake.on_prompt("bad").fail("ValueError", "no such thing", node_id="5")
        fake.on_prompt("long", times=1).delay(60)
        failed, running = put(client, text_to_image("bad")), put(client, text_to_image("long"))
        done, pending = put(client, text_to_image("good")), put(client, text_to_image("later"))

        until(lambda: client.lookup(running).state is JobState.RUNNING)
        assert client.lookup(pending).state is JobState.PENDING
        client.cancel(pending)
        client.cancel(running)
        fake.wait_until_idle()

        assert client.lookup(running).state is JobState.CANCELLED
        assert client.lookup(pending).state is JobState.UNKNOWN
        assert client.lookup(done).state is JobState.DONE
        assert client.lookup(failed).state is JobState.FAILED
        error = client.lookup(failed).error
        assert error is not None
        assert (error.node_id, error.node_type, error.exception_type) == ("5", "KSampler", "ValueError")
        assert error.message == "no such thing"
        assert "raise ValueError" in error.traceback
        assert error.kind == "other"


def test_a_prompt_that_ends_between_history_and_queue_is_not_lost(text_to_image):
    with FakeComfy(jobs_route=False) as fake:
        client = ComfyClient(fake.url)
        ended = threading.Event()

        def end_first(request: Any, proceed: Any) -> Any:
            ended.set()
            fake.wait_until_idle()
            return proceed()

        fake.on_prompt().do(lambda job, proceed: (ended.wait(10), proceed()))
        fake.on_request("/queue").do(end_first)

        assert client.lookup(put(client, text_to_image())).state is JobState.DONE


def test_history_that_was_cleared_or_evicted_leaves_unknown_and_the_file(text_to_image):
    with FakeComfy(history_size=2) as fake:
        client = ComfyClient(fake.url)
        ids = [put(client, text_to_image(prefix=f"row{n}")) for n in range(3)]
        fake.wait_until_idle()
        assert [client.lookup(it).state for it in ids] == [JobState.UNKNOWN, JobState.DONE, JobState.DONE]
        fake.forget_history()
        assert client.lookup(ids[2]).state is JobState.UNKNOWN
        assert client.fetch(ImageRef("row0_00001_.png", "", "output", ""))


def test_execution_blocker_is_done_without_outputs(fake, client, run_graph, text_to_image):
    fake.on_prompt().block("not today")
    found = run_graph(client, text_to_image())
    assert (found.state, found.outputs, found.error) == (JobState.DONE, (), None)


def test_other_outputs_are_noticed(fake, client, text_to_image):
    outputs = {
        "7": {"images": [{"filename": "clip.mp4", "subfolder": "", "type": "output"}], "animated": [True]},
        "8": {"text": ["a caption"]},
        "9": {"my_images": [{"filename": "a.WEBP", "subfolder": "x", "type": "output"}]},
    }
    job = {"status": "completed", "outputs": outputs, "execution_status": None}
    fake.on_request("/jobs").answer(json.dumps(job).encode(), content_type="application/json")

    found = client.lookup(new_id())

    assert found.outputs == (ImageRef("a.WEBP", "x", "output", "9"),)
    assert found.other_outputs
    assert found.seconds is None


def test_a_page_with_status_200_is_no_lookup(fake, client):
    fake.on_request("/jobs").answer(b"<html>welcome</html>")
    with pytest.raises(ServerTrouble, match="/api/jobs"):
        client.lookup(new_id())
    fake.behave()
    fake.on_request("/jobs").answer(b"{}", content_type="application/json")
    with pytest.raises(ServerTrouble, match="/api/jobs"):
        client.lookup(new_id())


@pytest.mark.parametrize(
    ("exception_type", "message", "kind"),
    [
        ("torch.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory.", "out_of_memory"),
        ("torch.cuda.OutOfMemoryError", "", "out_of_memory"),
        ("RuntimeError", "CUDA error: out of memory", "out_of_memory"),
        ("RuntimeError", "HIP out of memory. Tried to allocate 2 GiB", "out_of_memory"),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp:117] not enough memory", "out_of_memory"),
        ("MemoryError", "", "out_of_memory"),
        ("RuntimeError", "CUDA error: device-side assert triggered", "cuda"),
        ("torch.AcceleratorError", "an illegal memory access was encountered", "cuda"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "cuda"),
        ("RuntimeError", "HIP error: invalid device function", "cuda"),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied", "other"),
        ("FileNotFoundError", "model_a.safetensors", "other"),
    ],
)
def test_exceptions_are_sorted(exception_type, message, kind):
    assert ExecutionError("5", "KSampler", exception_type, message).kind == kind


# --- fetch ------------------------------------------------------------------------------------------------


def test_the_bytes_are_those_on_the_servers_disk(fake, client, run_graph, text_to_image):
    image = run_graph(client, text_to_image(prefix="分类/猫")).outputs[0]
    assert client.fetch(image) == (fake.output_dir / image.subfolder / image.filename).read_bytes()


def test_a_cached_answer_names_a_file_that_may_be_gone(fake, client, run_graph, text_to_image):
    first = run_graph(client, text_to_image())
    (fake.output_dir / first.outputs[0].filename).unlink()

    second = run_graph(client, text_to_image())

    assert second.state is JobState.DONE
    assert second.outputs == first.outputs
    with pytest.raises(ImageMissing, match=r"output//row_00001_\.png"):
        client.fetch(second.outputs[0])


@pytest.mark.parametrize(
    ("misbehave", "message"),
    [
        (lambda on_view: on_view.answer(b"<html>please log in</html>"), "a web page came"),
        (lambda on_view: on_view.answer(b"\n <!DOCTYPE html>", content_type="image/png"), "a web page came"),
        (lambda on_view: on_view.answer(b"oops", status=500), "500 oops"),
        (lambda on_view: on_view.answer(b"", status=403), "wants a login"),
    ],
)
def test_what_is_no_image_is_not_handed_on(fake, client, run_graph, text_to_image, misbehave, message):
    image = run_graph(client, text_to_image()).outputs[0]
    misbehave(fake.on_view())
    with pytest.raises(ServerTrouble, match=message):
        client.fetch(image)


def test_a_download_that_breaks_off_is_tried_again_and_then_given_up(fake, client, run_graph, text_to_image):
    image = run_graph(client, text_to_image()).outputs[0]
    fake.on_view(times=1).break_off()
    assert client.fetch(image) == (fake.output_dir / image.filename).read_bytes()

    fake.on_view().break_off()
    with pytest.raises((ServerTrouble, ServerGone)):
        client.fetch(image)


def test_a_short_body_is_noticed_where_the_http_library_does_not(client, monkeypatch):
    """urllib3 before 2 hands short bodies on."""

    class Short:
        status_code = 200
        content = b"\x89PNG"
        headers = {"Content-Length": "5"}  # noqa: RUF012

    monkeypatch.setattr(client._http, "ask", lambda *arguments, **options: Short)
    with pytest.raises(ServerTrouble, match="broke off: 5 bytes were promised"):
        client.fetch(ImageRef("a.png", "", "output", "7"))


# --- cancel, free, probes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs_route", [True, False])
def test_cancel_never_reaches_the_prompt_of_someone_else(text_to_image, until, jobs_route):
    with FakeComfy(jobs_route=jobs_route) as fake:
        client = ComfyClient(fake.url)
        fake.on_prompt("theirs").delay(0.3)
        theirs = put(client, text_to_image("theirs"))
        until(lambda: client.lookup(theirs).state is JobState.RUNNING)
        ours, done = put(client, text_to_image("ours")), new_id()

        client.cancel(ours)
        client.cancel(done)

        fake.wait_until_idle()
        assert client.lookup(theirs).state is JobState.DONE
        assert client.lookup(ours).state is JobState.UNKNOWN
        interrupts = fake.on_request("/interrupt").refuse()
        client.cancel(theirs)
        assert interrupts.fired == 0


@pytest.mark.parametrize("jobs_route", [True, False])
def test_a_cancel_that_comes_too_late_spares_the_next_prompt(text_to_image, until, jobs_route):
    with FakeComfy(jobs_route=jobs_route) as fake:
        client = ComfyClient(fake.url)
        ended, cancelled = threading.Event(), threading.Event()
        fake.on_prompt("ours").do(lambda job, proceed: (ended.wait(10), proceed()))
        fake.on_prompt("theirs").do(lambda job, proceed: (cancelled.wait(10), proceed()))
        ours, theirs = put(client, text_to_image("ours")), put(client, text_to_image("theirs"))
        until(lambda: client.lookup(ours).state is JobState.RUNNING)

        def too_late(request: Any, proceed: Any) -> Any:
            ended.set()
            until(lambda: theirs in fake.life.jobs.running)
            return proceed()

        rule = fake.on_request("/cancel" if jobs_route else "/interrupt").do(too_late)
        client.cancel(ours)
        cancelled.set()
        fake.wait_until_idle()

        assert rule.fired == 1
        assert [client.lookup(it).state for it in (ours, theirs)] == [JobState.DONE, JobState.DONE]


def test_free_empties_the_cache(fake, client, run_graph, text_to_image):
    run_graph(client, text_to_image())
    client.free()
    assert run_graph(client, text_to_image()).outputs[0].filename == "row_00002_.png"


@pytest.mark.parametrize(
    "misbehave",
    [lambda it: it.refuse(), lambda it: it.answer(b"busy", status=503), lambda it: it.lose_reply()],
)
def test_what_may_be_repeated_is_tried_three_times(fake, client, misbehave):
    misbehave(fake.on_request(times=2))
    assert client.queue_remaining() == 0

    fake.behave()
    rule = misbehave(fake.on_request())
    with pytest.raises(ServerError):
        client.queue_remaining()
    assert rule.fired == 3


def test_a_server_that_never_answers_is_given_up_after_the_timeout(fake):
    rule = fake.on_request().hang()
    with pytest.raises(ServerGone, match=r"no answer in 0\.2 s"):
        ComfyClient(fake.url, timeout=0.2).queue_remaining()
    assert rule.fired == 1, "waiting three times as long helps nobody"


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"exec_info": 3}', b'{"queue_running": [1], "queue_pending": []}']
)
def test_what_is_not_comfyui_is_recognised(fake, client, body):
    fake.on_request().answer(body)
    for question in (client.queue_remaining, client.queue):
        with pytest.raises(ServerTrouble, match="not answered as by ComfyUI"):
            question()


def test_versions_and_classes_come_through(client):
    assert client.system_stats()["system"]["comfyui_version"] == "0.33.0"
    assert client.object_info()["KSampler"]["output"] == ["LATENT"]


def test_threads_share_a_client_each_on_its_own_kept_connection(fake, client, text_to_image):
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda n: put(client, text_to_image(f"row {n}", prefix=f"p{n}")), range(24)))
    fake.wait_until_idle()
    assert {client.lookup(it).state for it in ids} == {JobState.DONE}
    assert len(fake.life.listener._open) <= 5


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(fake, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert ComfyClient(fake.url).queue_remaining() == 0


@pytest.mark.parametrize(
    ("lie", "looks"),
    [
        (lies.black, lambda data: Image.open(io.BytesIO(data)).getextrema() == ((0, 0), (0, 0), (0, 0))),
        (lies.sized(32, 16), lambda data: Image.open(io.BytesIO(data)).size == (32, 16)),
        (lies.empty, lambda data: data == b""),
        (lies.truncated, lambda data: data.startswith(b"\x89PNG") and b"IEND" not in data),
    ],
)
def test_bad_pictures_are_fetched_as_they_are(fake, client, run_graph, text_to_image, lie, looks):
    fake.on_prompt().saves(lie)
    assert looks(client.fetch(run_graph(client, text_to_image()).outputs[0]))
