"""What a rule may do. Each action is one function of the subject and of what would happen without it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..protocol import Job, Reply, Request
from .rules import Action, Proceed, Rule
from .sockets import Frame, Message
from .worker import NodeFailure, Vanished

if TYPE_CHECKING:
    from .fake import FakeComfy


@dataclass
class When:
    """Some subjects, some times; the methods of the subclasses say what then happens, and return the rule."""

    fake: FakeComfy
    stage: str
    matches: Callable[[Any], object]
    times: int | None

    def do(self, action: Action) -> Rule:
        """Do ``action(subject, proceed)`` instead of ``proceed()``."""
        return self.fake.rules.add(Rule(self.stage, self.matches, self.times, action))


class WhenRequest(When):
    """HTTP requests. The subject is a Request, the outcome a Reply, or None to hang up without one."""

    def refuse(self) -> Rule:
        """Hang up without having done anything."""
        return self.do(lambda request, proceed: None)

    def lose_reply(self) -> Rule:
        """Do it, then hang up."""

        def act(request: Request, proceed: Proceed) -> None:
            proceed()

        return self.do(act)

    def arrive_late(self, seconds: float) -> Rule:
        """Hang up now, do it later, as if the request had been under way all the while."""

        def act(request: Request, proceed: Proceed) -> None:
            timer = threading.Timer(seconds, proceed)
            timer.daemon = True
            timer.start()

        return self.do(act)

    def delay(self, seconds: float) -> Rule:
        """Do it, answer later."""

        def act(request: Request, proceed: Proceed) -> Any:
            reply = proceed()
            time.sleep(seconds)
            return reply

        return self.do(act)

    def hang(self) -> Rule:
        """Do nothing and never answer."""
        return self.do(lambda request, proceed: self.fake.wait_for_end())

    def answer(self, body: bytes = b"", status: int = 200, content_type: str = "text/html") -> Rule:
        """Do nothing and answer this."""
        return self.do(lambda request, proceed: Reply(status, body, content_type))

    def change(self, change: Callable[[bytes], bytes]) -> Rule:
        """Do it and answer with a changed body."""

        def act(request: Request, proceed: Proceed) -> Reply:
            reply: Reply = proceed()
            return replace(reply, body=change(reply.body))

        return self.do(act)

    def break_off(self, after: int = 100) -> Rule:
        """Do it, promise the whole answer, and hang up after so many bytes."""

        def act(request: Request, proceed: Proceed) -> Reply:
            reply: Reply = proceed()
            return replace(reply, body=reply.body[:after], headers={"Content-Length": str(len(reply.body))})

        return self.do(act)


class WhenPrompt(When):
    """Prompts, when their turn comes. The subject is a Job."""

    def fail(self, exception_type: str, message: str, node_id: str | None = None) -> Rule:
        """A node raises."""

        def act(job: Job, proceed: Proceed) -> None:
            raise NodeFailure(exception_type, message, node_id)

        return self.do(act)

    def block(self, message: str = "blocked") -> Rule:
        """An ExecutionBlocker: execution_error is sent, then execution_success, and nothing is made."""

        def act(job: Job, proceed: Proceed) -> None:
            node_id = job.targets[0]
            data = {
                "prompt_id": job.prompt_id,
                "node_id": node_id,
                "node_type": job.graph[node_id]["class_type"],
                "executed": [],
                "exception_message": f"Execution Blocked: {message}",
                "exception_type": "ExecutionBlocked",
                "traceback": [],
                "current_inputs": [],
                "current_outputs": [],
            }
            job.worker.hub.send("execution_error", data, job.extra.get("client_id"))

        return self.do(act)

    def delay(self, seconds: float) -> Rule:
        """Take longer; an interruption ends it."""

        def act(job: Job, proceed: Proceed) -> None:
            job.worker.pause(job, seconds)
            proceed()

        return self.do(act)

    def saves(self, alter: Callable[[bytes], bytes]) -> Rule:
        """Write other bytes than the picture's: see ``lies``."""

        def act(job: Job, proceed: Proceed) -> None:
            job.worker.alter = alter
            proceed()

        return self.do(act)

    def saves_nothing(self) -> Rule:
        """End in success without outputs."""
        return self.do(lambda job, proceed: None)

    def vanish(self) -> Rule:
        """Be forgotten without a trace."""

        def act(job: Job, proceed: Proceed) -> None:
            raise Vanished

        return self.do(act)

    def kill_worker(self) -> Rule:
        """End the worker thread (SystemExit in a node): HTTP goes on, the queue never moves again."""

        def act(job: Job, proceed: Proceed) -> None:
            raise SystemExit

        return self.do(act)

    def die(self, back_after: float | None = None) -> Rule:
        """Kill the server; ``back_after`` seconds later it is started again, without its memory."""

        def act(job: Job, proceed: Proceed) -> None:
            self.fake.kill()
            if back_after is not None:
                timer = threading.Timer(back_after, self.fake.restart)
                timer.daemon = True
                timer.start()
            raise SystemExit

        return self.do(act)


class WhenMessage(When):
    """Websocket messages. The subject is a Message, proceeding sends it."""

    def drop(self) -> Rule:
        """Do not send it."""
        return self.do(lambda message, proceed: None)

    def duplicate(self) -> Rule:
        """Send it twice."""

        def act(message: Message, proceed: Proceed) -> None:
            proceed()
            proceed()

        return self.do(act)

    def hold(self) -> Rule:
        """Send it after the one that follows it."""
        return self.do(lambda message, proceed: message.hub.held.append(proceed))

    def follow_with(self, *frames: Frame) -> Rule:
        """Send these after it: a dict as JSON, a str as text, bytes as binary."""

        def act(message: Message, proceed: Proceed) -> None:
            proceed()
            for frame in frames:
                message.hub.say(frame, message.sid)

        return self.do(act)

    def reset(self) -> Rule:
        """Send it, then cut all websockets."""

        def act(message: Message, proceed: Proceed) -> None:
            proceed()
            message.hub.cut()

        return self.do(act)
