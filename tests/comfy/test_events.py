"""The websocket may lose, repeat or invent anything; the stream survives it and comes back."""

from __future__ import annotations

import threading
import time

import pytest

from promptmill.driver.comfy import EventKind, EventStream, ExecutionError, JobState, Progress


def test_progress_comes_step_by_step(fake, client, listen, submit, text_to_image):
    ears = listen(fake.url)
    prompt_id = submit(client, text_to_image(steps=3), ears.stream.client_id)

    events = ears.upto(EventKind.FINISHED)

    steps = [event.data for event in events if event.kind is EventKind.PROGRESS and event.data.node == "5"]
    assert steps == [Progress(0, 1, "5"), *(Progress(value, 3, "5") for value in (1, 2, 3))]
    assert events[-1].prompt_id == prompt_id


def test_failures_come_with_their_exception_and_are_finished_too(fake, client, listen, submit, text_to_image):
    fake.on_prompt().fail("torch.OutOfMemoryError", "Allocation on device", node_id="5")
    ears = listen(fake.url)
    submit(client, text_to_image(), ears.stream.client_id)

    error = ears.next(EventKind.FAILED).data

    assert isinstance(error, ExecutionError)
    assert (error.kind, error.node_id) == ("out_of_memory", "5")
    ears.next(EventKind.FINISHED)


def test_execution_blocker_fails_and_finishes(fake, client, listen, submit, text_to_image):
    fake.on_prompt().block()
    ears = listen(fake.url)
    submit(client, text_to_image(), ears.stream.client_id)
    kinds = [event.kind for event in ears.upto(EventKind.FINISHED)]
    assert EventKind.FAILED in kinds


def test_every_connection_has_a_fresh_client_id_and_hears(fake, client, listen, submit, text_to_image):
    ears = listen(fake.url)
    first = ears.stream.client_id

    fake.reset_websockets()
    ears.next(EventKind.DISCONNECTED)
    ears.next(EventKind.CONNECTED)

    assert ears.stream.client_id not in (None, first)
    prompt_id = submit(client, text_to_image(), ears.stream.client_id)
    assert ears.next(EventKind.FINISHED).prompt_id == prompt_id


def test_a_server_that_restarts_is_heard_again(fake, client, listen, submit, text_to_image):
    ears = listen(fake.url)
    fake.kill()
    ears.next(EventKind.DISCONNECTED)
    assert ears.stream.client_id is None
    fake.start()
    ears.next(EventKind.CONNECTED)
    submit(client, text_to_image(), ears.stream.client_id)
    ears.next(EventKind.FINISHED)


def test_a_silent_connection_is_noticed_by_its_missing_pong(fake, listen):
    ears = listen(fake.url, ping_every=0.3)
    fake.silence_websockets(pong=False)
    ears.next(EventKind.DISCONNECTED)
    ears.next(EventKind.CONNECTED)
    assert ears.stream.counters["timeouts"] >= 1


def test_a_quiet_connection_that_answers_pings_is_kept(fake, listen):
    ears = listen(fake.url, ping_every=1.0)
    time.sleep(3.0)
    assert ears.stream.counters["connections"] == 1


def test_who_hears_nothing_can_ask_for_a_new_connection(fake, client, listen, submit, text_to_image):
    ears = listen(fake.url)
    fake.silence_websockets(pong=True)
    prompt_id = submit(client, text_to_image(), ears.stream.client_id)
    fake.wait_until_idle()
    assert client.lookup(prompt_id).state is JobState.DONE, "polling decides"

    ears.stream.reconnect()

    ears.next(EventKind.DISCONNECTED)
    ears.next(EventKind.CONNECTED)


def test_a_connection_that_is_never_greeted_gives_no_client_id(fake):
    fake.on_message("status").drop()
    stream = EventStream(fake.url, lambda event: None)
    stream.start()
    time.sleep(0.3)
    assert stream.client_id is None
    stream.stop()


def test_garbage_unknown_and_binary_are_counted_and_dropped(fake, client, listen, submit, text_to_image):
    ears = listen(fake.url)
    garbage = [
        "not json",
        "[]",
        "3",
        '{"type": "progress"}',
        {"type": ["x"], "data": {}},
        {"type": "status", "data": None},
        {"type": "progress", "data": {"value": "many", "max": 2, "node": "5", "prompt_id": "x"}},
        {"type": "executed", "data": {"output": {}}},
        "[" * 100_000,
    ]
    fake.say(
        *garbage, b"\x00\x00\x00\x01\x00\x00\x00\x01jpeg", b"", {"type": "crystools.monitor", "data": {}}
    )

    prompt_id = submit(client, text_to_image(), ears.stream.client_id)

    assert ears.next(EventKind.FINISHED).prompt_id == prompt_id
    counters = ears.stream.counters
    assert (counters["garbage"], counters["binary"], counters["unknown"]) == (len(garbage), 2, 1)
    assert counters["connections"] == 1, "none of it broke the connection"


def test_bytes_that_are_no_text_are_garbage_not_the_end(fake, client, listen, submit, text_to_image):
    ears = listen(fake.url)
    for connection in fake.life.hub.connections:
        connection.send_frame(1, b"\xff\xfe\x00")
    submit(client, text_to_image(), ears.stream.client_id)
    ears.next(EventKind.FINISHED)
    assert ears.stream.counters["garbage"] == 1
    assert ears.stream.counters["connections"] == 1


def test_duplicates_are_counted_and_dropped(fake, client, listen, submit, text_to_image):
    fake.on_message(lambda message: message.type != "status").duplicate()
    ears = listen(fake.url)
    submit(client, text_to_image(steps=1), ears.stream.client_id)

    fake.wait_until_idle()
    last = submit(client, text_to_image("last", steps=1), ears.stream.client_id)
    events = ears.upto(EventKind.FINISHED)
    events += ears.upto(EventKind.FINISHED)

    assert [event.kind for event in events].count(EventKind.EXECUTED) == 2
    assert events[-1].prompt_id == last
    assert ears.stream.counters["duplicate"] >= 4


def test_messages_out_of_order_are_all_delivered(fake, client, listen, submit, text_to_image):
    fake.on_message("executed").hold()
    ears = listen(fake.url)
    submit(client, text_to_image(), ears.stream.client_id)
    kinds = [event.kind for event in ears.upto(EventKind.FINISHED)]
    assert EventKind.EXECUTED in kinds


def test_what_is_said_of_other_prompts_is_counted_and_dropped(fake, client, listen, submit, text_to_image):
    ours: set[str] = set()
    ears = listen(fake.url, ours=ours.__contains__)
    submit(client, text_to_image("someone else's"), ears.stream.client_id)
    fake.wait_until_idle()
    fake.say({"type": "executing", "data": {"node": None, "prompt_id": "foreign"}})
    fake.on_prompt().do(lambda job, proceed: (ours.add(job.prompt_id), proceed()))

    prompt_id = submit(client, text_to_image("ours"), ears.stream.client_id)

    events = ears.upto(EventKind.FINISHED)
    assert {event.prompt_id for event in events} == {None, prompt_id}
    assert ears.stream.counters["foreign"] >= 5


def test_a_client_that_never_reads_stops_the_messages_and_not_the_work(fake, client, submit, text_to_image):
    """Why nothing slow may happen in on_event: here it does, and the server's messages stand still."""
    fake.on_message("executed").follow_with(b"x" * 30_000_000)
    stuck, seen = threading.Event(), threading.Event()

    def slow(event):
        if event.kind is EventKind.CONNECTED:
            seen.set()
            stuck.wait(30)

    stream = EventStream(fake.url, slow)
    stream.start()
    seen.wait(10)
    heard = []
    other = EventStream(fake.url, heard.append)
    other.start()
    first = submit(client, text_to_image("first"), stream.client_id)
    fake.wait_until_idle()
    second = submit(client, text_to_image("second"), other.client_id)
    fake.wait_until_idle()

    assert {client.lookup(it).state for it in (first, second)} == {JobState.DONE}
    assert second not in {event.prompt_id for event in heard}
    stuck.set()
    stream.stop()
    other.stop()


@pytest.mark.parametrize("alive", [True, False])
def test_stop_ends_the_thread_at_once(fake, listen, alive):
    ears = listen(fake.url)
    if not alive:
        fake.kill()
        ears.next(EventKind.DISCONNECTED)
    ears.stream.stop()
    assert not ears.stream._thread.is_alive()
