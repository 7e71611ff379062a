"""Workflows: load them, find what can be set, set it, and say what a server would refuse."""

from .checks import checker
from .files import WorkflowFile, load_workflow
from .graph import Graph, InputInfo, model_inputs
from .outputs import Saver
from .pack import PromptTable
from .schema import Target

__all__ = [
    "Graph",
    "InputInfo",
    "PromptTable",
    "Saver",
    "Target",
    "WorkflowFile",
    "checker",
    "load_workflow",
    "model_inputs",
]
