"""A supported test double: a ComfyUI server in this process that can be told to misbehave."""

from ..protocol import Reply, Request
from . import lies
from .catalogue import object_info
from .fake import FakeComfy, Post
from .rules import Rule, text_of

__all__ = ["FakeComfy", "Post", "Reply", "Request", "Rule", "lies", "object_info", "text_of"]
