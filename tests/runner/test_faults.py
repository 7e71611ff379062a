"""Faults in the network and in servers. After each of them the audit holds; the numbers are those of the fault list."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from promptmill.driver.comfy import EventStream
from promptmill.driver.ledger import JobState
from promptmill.driver.runner import RunEvent
from promptmill.driver.testing import FakeComfy, lies

ROW = "number 3 of"
"""In the prompt of row 3 only."""


def prompts_of(fake: FakeComfy) -> list[str]:
    return [post.graph["6"]["inputs"]["text"] for post in fake.posts]


def posted(fake: FakeComfy, text: str) -> int:
    return sum(text in prompt for prompt in prompts_of(fake))


def test_a_lost_reply_is_looked_up_and_not_sent_again(mill: Any, fake: FakeComfy) -> None:
    """Fault 5."""
    rule = fake.on_post(ROW, times=1).lose_reply()

    assert mill.run(fake).exit_code == 0
    assert rule.fired == 1
    assert posted(fake, ROW) == 1
    mill.audit(6, fakes=(fake,))


def test_a_post_that_never_arrived_is_sent_again(mill: Any, fake: FakeComfy) -> None:
    """Fault 5, the other half: the connection broke before the server did anything."""
    fake.on_post(ROW, times=1).refuse()

    assert mill.run(fake).exit_code == 0
    assert posted(fake, ROW) == 1
    mill.audit(6, fakes=(fake,))


def test_a_post_that_arrives_after_the_look_up_runs_twice_and_is_accepted_once(
    mill: Any, fake: FakeComfy
) -> None:
    """Fault 6."""
    held: list[Any] = []
    fake.on_post(ROW, times=1).do(lambda request, proceed: held.append(proceed))

    def let_the_first_arrive(job: Any, proceed: Any) -> None:
        held[0]()
        proceed()

    fake.on_prompt(ROW, times=1).do(let_the_first_arrive)

    assert mill.run(fake).exit_code == 0
    fake.wait_until_idle()
    assert posted(fake, ROW) == 2
    mill.audit(6, fakes=(fake,))
    ends = sorted(attempt["state"] for attempt in mill.attempts() if attempt["row_id"] == "S3")
    assert ends in (["accepted", "lost"], ["accepted", "orphaned"])


@pytest.mark.parametrize("trouble", ["reset", "silent", "half-open", "none at all"])
def test_polling_finishes_every_row_whatever_the_websocket_does(
    mill: Any, fake: FakeComfy, watch: Any, trouble: str
) -> None:
    """Fault 7."""
    if trouble == "none at all":
        fake.on_request("/ws").refuse()

    def disturb(event: RunEvent) -> None:
        if event.kind != "done":
            return
        if trouble == "reset":
            fake.reset_websockets()
        elif trouble in ("silent", "half-open"):
            fake.silence_websockets(pong=trouble == "silent")

    fake.seconds_per_job = 0.02
    assert mill.run(fake, watcher=watch(disturb)).exit_code == 0
    assert len(fake.posts) == 6
    mill.audit(6, fakes=(fake,))


def test_another_client_that_never_reads_and_one_with_our_id_change_nothing(
    mill: Any, fake: FakeComfy, watch: Any
) -> None:
    """Fault 8."""
    strangers: list[EventStream] = []

    def intrude(event: RunEvent) -> None:
        if event.kind == "done" and not strangers:
            stranger = EventStream(fake.url, lambda event: time.sleep(5))
            stranger.start()
            strangers.append(stranger)

    assert mill.run(fake, watcher=watch(intrude)).exit_code == 0
    mill.audit(6, fakes=(fake,))
    assert len(fake.posts) == 6


@pytest.mark.parametrize("what", ["duplicate", "hold", "garbage"])
def test_duplicated_reordered_foreign_and_garbage_messages_are_harmless(
    mill: Any, fake: FakeComfy, what: str
) -> None:
    """Fault 9."""
    if what == "duplicate":
        fake.on_message().duplicate()
    elif what == "hold":
        fake.on_message(lambda message: message.type in ("executed", "execution_success")).hold()
    else:
        foreign = {
            "type": "executing",
            "data": {"node": None, "prompt_id": "00000000-0000-4000-8000-000000000000"},
        }
        fake.on_message("executing").follow_with(foreign, "{nonsense", b"\x00\x00\x00\x01\x00", {"type": 7})

    assert mill.run(fake).exit_code == 0
    assert len(fake.posts) == 6
    mill.audit(6, fakes=(fake,))


def test_a_message_that_names_another_prompts_file_is_not_believed(mill: Any, fake: FakeComfy) -> None:
    """Fault 9: right id, wrong file."""
    first: list[Any] = []

    def lie(message: Any, proceed: Any) -> None:
        if first:
            message.data["output"] = first[0]
        first.append(message.data["output"])
        proceed()

    fake.on_message("executed").do(lie)

    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))
    assert len({entry["sha256"] for entry in mill.entries()}) == 6


def test_a_server_killed_mid_prompt_and_restarted_loses_nothing(mill: Any, fake: FakeComfy) -> None:
    """Fault 10."""
    fake.on_prompt(ROW, times=1).die(back_after=0.3)

    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))
    assert posted(fake, "number 1 of") == 1, "what was finished is kept"
    assert posted(fake, ROW) == 2


def test_a_restart_between_completion_and_fetch_recovers_the_file(
    mill: Any, fake: FakeComfy, watch: Any
) -> None:
    """Fault 11: history is gone, the file is not."""
    fetched: list[str] = []

    def restart(request: Any, proceed: Any) -> None:
        fetched.append(request.query["filename"])
        fake.restart()

    fake.on_view(times=1).do(restart)

    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))
    first = next(post for post in fake.posts if fetched[0].startswith(post.prompt_id))
    assert posted(fake, first.graph["6"]["inputs"]["text"]) == 1


def test_a_restart_that_loses_the_files_makes_them_again(mill: Any, fake: FakeComfy) -> None:
    """Fault 11: file and history are gone."""
    fake.on_view(times=1).do(lambda request, proceed: fake.restart(keep_files=False))

    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))


def test_a_dead_worker_thread_is_noticed_and_its_rows_move(
    mill: Any, fake: FakeComfy, other: FakeComfy, quick: Any
) -> None:
    """Fault 12 with a second server."""
    fake.seconds_per_job = other.seconds_per_job = 0.02
    mill.write(20)
    fake.on_prompt(times=1).kill_worker()

    result = mill.run(fake, other, settings=quick)

    assert result.exit_code == 0
    mill.audit(20, fakes=(fake, other))
    assert len(other.posts) >= 18


def test_a_dead_worker_thread_on_the_only_server_stops_the_run_with_a_reason(
    mill: Any, fake: FakeComfy, quick: Any
) -> None:
    """Fault 12 alone; after a restart the same command goes on."""
    fake.on_prompt(ROW, times=1).kill_worker()

    result = mill.run(fake, settings=quick)

    assert result.exit_code == 3
    assert fake.url in str(result.error)
    fake.restart()
    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))


def test_out_of_memory_once_is_freed_and_tried_again(mill: Any, fake: FakeComfy) -> None:
    """Fault 13."""
    freed = fake.on_request("/free").delay(0.0)
    fake.on_prompt(ROW, times=1).fail(
        "torch.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory."
    )

    assert mill.run(fake).exit_code == 0
    assert freed.fired == 1
    mill.audit(6, fakes=(fake,))


def test_out_of_memory_always_fails_that_row_alone(mill: Any, fake: FakeComfy) -> None:
    """Fault 13."""
    fake.on_prompt(ROW).fail("torch.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory.")

    result = mill.run(fake)

    assert result.exit_code == 1
    assert mill.states()["S3"] == "failed"
    mill.audit(6, fakes=(fake,), done=5)
    assert posted(fake, ROW) == 3
    assert "OutOfMemoryError" in next(e["error"] for e in mill.entries() if e["row_id"] == "S3")


def test_a_failed_row_is_retried_on_request_only(mill: Any, fake: FakeComfy) -> None:
    fake.on_prompt(ROW).fail("ValueError", "no")
    mill.run(fake)
    fake.behave()

    assert mill.run(fake).exit_code == 1
    assert mill.run(fake, retry=frozenset({JobState.FAILED})).exit_code == 0
    mill.audit(6, fakes=(fake,))


def test_a_retry_makes_no_row_that_was_not_asked_for(mill: Any, fake: FakeComfy) -> None:
    fake.on_prompt("number 2 of").fail("ValueError", "no")
    mill.run(fake, rows="1-2")
    fake.behave()

    result = mill.run(fake, retry=frozenset({JobState.FAILED}))

    assert (result.exit_code, result.made) == (0, 1)
    mill.audit(2, fakes=(fake,))


@pytest.mark.timeout(60)
def test_a_job_that_ends_before_the_websocket_is_open_is_not_waited_for(
    mill: Any, fake: FakeComfy, patient: Any
) -> None:
    """Its end is told to nobody; it is polled for often, not every ``poll`` seconds."""
    fake.on_request("/ws").refuse()

    assert mill.run(fake, rows="1", settings=replace(patient, poll=3600.0)).exit_code == 0


def test_an_error_in_the_middle_of_a_run_is_not_reported_as_nothing_queued(
    mill: Any, fake: FakeComfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptmill.driver.ledger import Ledger, LedgerError

    def broken(*_: Any, **__: Any) -> None:
        raise LedgerError("the database has gone")

    monkeypatch.setattr(Ledger, "complete", broken)
    result = mill.run(fake)
    assert result.exit_code == 1
    assert "the database has gone" in str(result.error)

    monkeypatch.undo()
    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))


def test_a_server_that_fails_at_everything_but_its_work_harms_nobody(
    mill: Any, fake: FakeComfy, other: FakeComfy, quick: Any
) -> None:
    """It answers 500 to /free and /queue: no reason to end a run that another server goes on with."""
    mill.write(20)
    other.seconds_per_job = 0.02
    fake.on_request("/free").answer(b"oops", 500)
    fake.on_request("/queue").answer(b"oops", 500)
    fake.on_prompt(times=1).fail("torch.OutOfMemoryError", "Allocation on device")
    fake.on_prompt("number 4 of", times=1).delay(60)

    assert mill.run(fake, other, settings=quick).exit_code == 0
    mill.audit(20, fakes=(fake, other))


def test_a_proxy_that_answers_for_a_server_that_is_away_costs_no_row(
    mill: Any, fake: FakeComfy, watch: Any
) -> None:
    def away(event: RunEvent) -> None:
        if event.kind == "done" and not gone:
            gone.append(fake.on_request(times=25).answer(b"bad gateway", 502))

    gone: list[Any] = []
    assert mill.run(fake, watcher=watch(away)).exit_code == 0
    assert gone[0].fired == 25
    mill.audit(6, fakes=(fake,))


def test_rows_that_the_server_refuses_do_not_stop_the_others(mill: Any, fake: FakeComfy) -> None:
    mill.write(10)
    body = b'{"error": {"type": "x", "message": "no"}, "node_errors": {}}'
    for number in (1, 2, 3, 4):
        fake.on_post(f"number {number} of").answer(body, 400, "application/json")

    result = mill.run(fake)

    assert result.exit_code == 1
    mill.audit(10, fakes=(fake,), done=6)


def test_part_of_an_image_set_is_never_done(mill: Any, fake: FakeComfy) -> None:
    """The workflow does not tell how many images it makes, and the server dies between its two savers."""

    def two_savers(graph: dict[str, Any]) -> None:
        graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "photos/cup.png"}}
        graph["5"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
        graph["11"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "two"}}

    def die_between(job: Any, proceed: Any) -> None:
        proceed()
        last = max(fake.output_dir.rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        last.unlink()
        fake.restart()
        raise SystemExit

    mill.write_workflow(two_savers)
    (fake.input_dir / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(fake.input_dir / "photos" / "cup.png")
    fake.on_prompt(ROW, times=1).do(die_between)

    assert mill.run(fake).exit_code == 0
    assert len(list(mill.out.glob("*.png"))) == 12


def test_rows_left_open_by_a_crash_are_settled_though_they_are_not_selected(
    mill: Any, fake: FakeComfy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptmill.driver.runner.worker import ServerWorker

    monkeypatch.setattr(ServerWorker, "_take_back", lambda worker: None)
    fake.on_prompt().delay(30)
    fired: list[int] = []

    def stop() -> None:
        fired.append(1)
        if len(fired) == 5:
            raise KeyboardInterrupt

    from promptmill.driver.runner import Observer

    watcher = Observer()
    watcher.tick = stop  # type: ignore[method-assign]
    assert mill.run(fake, watcher=watcher).exit_code == 130
    monkeypatch.undo()
    fake.restart()
    fake.behave()

    assert mill.run(fake, rows="6").exit_code == 0
    assert mill.run(fake).exit_code == 0
    mill.audit(6)


def test_a_server_that_falls_too_often_lets_go_of_its_rows(
    mill: Any, fake: FakeComfy, other: FakeComfy
) -> None:
    mill.write(20)
    other.seconds_per_job = 0.05
    fake.on_view().delay(1.0)
    fake.on_post().lose_reply()
    fake.on_request("/jobs/").refuse()

    assert mill.run(fake, other).exit_code == 0
    mill.audit(20, fakes=(other,))


def test_an_error_text_that_no_database_takes_is_kept_readable(mill: Any, fake: FakeComfy) -> None:
    fake.on_prompt(ROW).fail("ValueError", "half a pair \ud83d and a \0 byte")

    assert mill.run(fake).exit_code == 1
    mill.audit(6, fakes=(fake,), done=5)
    assert "half a pair" in next(entry["error"] for entry in mill.entries() if entry["row_id"] == "S3")


def test_a_column_that_vanished_does_not_strand_what_was_open(mill: Any, fake: FakeComfy) -> None:
    mill.write(change=lambda rows: [row.update(cfg="5") for row in rows])
    fake.on_prompt(ROW).fail("ValueError", "no")
    assert mill.run(fake).exit_code == 1
    fake.behave()
    mill.write()

    assert mill.run(fake, retry=frozenset({JobState.FAILED})).exit_code == 0


def test_a_server_that_hangs_up_on_every_prompt_is_left(mill: Any, fake: FakeComfy) -> None:
    fake.on_post().refuse()

    result = mill.run(fake)

    assert result.exit_code == 3
    assert "hangs up" in str(result.error)
    fake.behave()
    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))


def test_a_server_never_has_more_than_its_share_in_flight(mill: Any, fake: FakeComfy, patient: Any) -> None:
    """Not even while slow jobs are looked up, on a server that is slow to answer."""
    mill.write_workflow(lambda graph: graph["3"]["inputs"].update(steps=30))
    fake.seconds_per_job = 0.4
    fake.on_request("/jobs/").delay(0.2)
    seen: list[int] = []

    def count(request: Any, proceed: Any) -> Any:
        reply = proceed()
        seen.append(fake.life.jobs.remaining())
        return reply

    fake.on_post().do(count)

    assert mill.run(fake, settings=replace(patient, poll=0.02, in_flight=2)).exit_code == 0
    assert len(seen) == 6
    assert max(seen) <= 2


def test_the_same_device_error_again_and_again_drains_the_server(
    mill: Any, fake: FakeComfy, other: FakeComfy
) -> None:
    """Fault 14."""
    mill.write(20)
    other.seconds_per_job = 0.05
    fake.on_prompt().fail("RuntimeError", "CUDA error: an illegal memory access was encountered")

    assert mill.run(fake, other).exit_code == 0
    assert len(fake.posts) <= 8
    mill.audit(20, fakes=(fake, other))


@pytest.mark.parametrize(
    "lie",
    [lies.black, lies.truncated, lies.empty, lies.sized(32, 32)],
    ids=["black", "truncated", "empty", "sized"],
)
def test_a_bad_image_is_never_done(mill: Any, fake: FakeComfy, lie: Any) -> None:
    """Fault 15."""
    rule = fake.on_prompt(ROW, times=1).saves(lie)

    assert mill.run(fake).exit_code == 0
    assert rule.fired == 1
    assert posted(fake, ROW) == 2
    mill.audit(6, fakes=(fake,))


def test_an_image_that_is_always_bad_fails_with_what_is_wrong(mill: Any, fake: FakeComfy) -> None:
    """Fault 15."""
    fake.on_prompt(ROW).saves(lies.black)

    assert mill.run(fake).exit_code == 1
    mill.audit(6, fakes=(fake,), done=5)
    assert "blank" in next(entry["error"] for entry in mill.entries() if entry["row_id"] == "S3")


def test_a_web_page_instead_of_an_image_is_never_done(mill: Any, fake: FakeComfy) -> None:
    """Fault 15."""
    rule = fake.on_view(times=2).answer(b"<html>sign in</html>")

    assert mill.run(fake).exit_code == 0
    assert rule.fired == 2
    mill.audit(6, fakes=(fake,))


def test_success_without_an_image_is_not_done(mill: Any, fake: FakeComfy) -> None:
    fake.on_prompt(ROW, times=1).block("nothing to see")
    fake.on_prompt("number 4 of", times=1).saves_nothing()

    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))


def test_a_history_that_is_cleared_or_evicted_is_no_failure(mill: Any, fake: FakeComfy) -> None:
    """Fault 17."""

    def forget_first(request: Any, proceed: Any) -> Any:
        fake.forget_history()
        return proceed()

    fake.on_message("executed").drop()
    rule = fake.on_request("/jobs/").do(forget_first)

    assert mill.run(fake).exit_code == 0
    assert rule.fired >= 6
    assert len(fake.posts) == 6
    mill.audit(6, fakes=(fake,))


@pytest.mark.parametrize("policy", ["retry", "mark"])
def test_a_prompt_that_somebody_cancels_is_retried_or_marked(mill: Any, fake: FakeComfy, policy: str) -> None:
    """Fault 18: a pending one leaves no trace, a running one is interrupted."""
    recipe = mill.folder / "recipe.toml"
    recipe.write_text(f'workflow = "workflow.json"\non_cancel = "{policy}"\n', encoding="utf-8")
    fake.on_prompt(ROW, times=1).vanish()

    def interrupt(job: Any, proceed: Any) -> None:
        threading.Timer(0.1, job.interrupted.set).start()
        fake.life.worker.pause(job, 5)

    fake.on_prompt("number 5 of", times=1).do(interrupt)
    result = mill.run(fake, workflow=recipe)

    if policy == "retry":
        assert result.exit_code == 0
        mill.audit(6, fakes=(fake,))
    else:
        assert result.exit_code == 1
        assert {mill.states()["S3"], mill.states()["S5"]} == {"cancelled"}
        mill.audit(6, fakes=(fake,), done=4)


def test_a_cached_answer_whose_file_was_deleted_is_made_again(mill: Any, fake: FakeComfy) -> None:
    """Fault 19."""
    gone = []

    def delete(job: Any, proceed: Any) -> None:
        proceed()
        for path in fake.output_dir.rglob("*.png"):
            path.unlink()
            gone.append(path)

    fake.on_prompt(ROW, times=1).do(delete)

    assert mill.run(fake).exit_code == 0
    assert gone
    mill.audit(6, fakes=(fake,))


def test_two_servers_that_share_an_output_folder_overwrite_nothing(mill: Any, tmp_path: Any) -> None:
    """Fault 21."""
    mill.write(30)
    shared = tmp_path / "shared"
    with FakeComfy(output_dir=shared) as one, FakeComfy(output_dir=shared) as two:
        assert mill.run(one, two).exit_code == 0
        mill.audit(30, fakes=(one, two))
        assert len(list(shared.rglob("*.png"))) == 30


def test_a_slow_and_a_flapping_server_slow_nobody_down(mill: Any, fake: FakeComfy, other: FakeComfy) -> None:
    """Fault 22."""
    mill.write(20)
    fake.on_request("/prompt").delay(0.2)
    other.on_prompt("number 4 of", times=1).die(back_after=0.1)
    other.on_prompt("number 9 of", times=1).die(back_after=0.1)

    assert mill.run(fake, other).exit_code == 0
    mill.audit(20, fakes=(fake, other))


def test_a_row_that_kills_the_server_every_time_is_quarantined(mill: Any, fake: FakeComfy) -> None:
    """Fault 23."""
    fake.on_prompt(ROW).die(back_after=0.1)

    result = mill.run(fake)

    assert result.exit_code == 1
    assert mill.states()["S3"] == "quarantined"
    mill.audit(6, fakes=(fake,), done=5)


@pytest.mark.timeout(60)
def test_a_server_that_stays_away_hands_its_rows_over(
    mill: Any, fake: FakeComfy, other: FakeComfy, patient: Any
) -> None:
    """Long before it is given up for good; it comes back when the others have done its rows."""
    mill.write(20)
    other.seconds_per_job = 0.05
    fake.on_prompt(times=1).die()

    assert mill.run(fake, other, settings=replace(patient, handover=0.5)).exit_code == 0
    mill.audit(20, fakes=(fake, other))


def test_the_only_server_stays_away_and_the_run_can_go_on_later(
    mill: Any, fake: FakeComfy, quick: Any
) -> None:
    fake.on_prompt(ROW, times=1).die()

    assert mill.run(fake, settings=quick).exit_code == 3
    fake.start()
    assert mill.run(fake).exit_code == 0
    mill.audit(6, fakes=(fake,))


def test_a_prompt_without_progress_is_cancelled_and_tried_again(
    mill: Any, fake: FakeComfy, patient: Any
) -> None:
    fake.on_prompt(ROW, times=1).delay(60)

    assert mill.run(fake, settings=replace(patient, timeout=1.0)).exit_code == 0
    mill.audit(6, fakes=(fake,))
    assert any(attempt["error_code"] == "timeout" for attempt in mill.attempts())


def test_interrupting_cancels_what_was_queued_and_nothing_of_anyone_elses(
    mill: Any, fake: FakeComfy, watch: Any
) -> None:
    from promptmill.driver.comfy import ComfyClient

    fake.seconds_per_job = 0.05
    mill.write(40)
    foreign = "11111111-2222-4333-8444-555555555555"
    done = threading.Event()

    def interrupt(event: RunEvent) -> None:
        if event.kind == "done" and not done.is_set():
            done.set()
            graph = fake.posts[0].graph
            ComfyClient(fake.url).submit(foreign, graph, client_id=None)

    watcher = watch(interrupt)
    watcher.tick = lambda: _interrupt_once(done)
    result = mill.run(fake, watcher=watcher)

    assert result.exit_code == 130
    assert {attempt["state"] for attempt in mill.attempts()} == {"accepted", "cancelled"}
    fake.wait_until_idle()
    assert foreign in fake.life.jobs.history
    assert mill.run(fake).exit_code == 0
    mill.audit(40)


def _interrupt_once(done: threading.Event) -> None:
    if done.is_set() and not getattr(done, "used", False):
        done.used = True  # type: ignore[attr-defined]
        raise KeyboardInterrupt
