"""Which rows can share a forward."""

from __future__ import annotations

from typing import Any

import torch

Entries = dict[str, dict[str, Any]]
"""The processed conditionings of a row, or of a group of rows: ``positive`` and ``negative``."""


def group(rows: list[Entries], device: Any, all_or_none: bool) -> list[tuple[Any, Entries]]:
    """
    The rows that can share a forward: what picks them from a batch, and one conditioning for all of them.

    Both are on the device for all steps; a list of numbers would make each step wait for it.

    :param all_or_none: each row alone where not all can be together: groups of two sizes only, for each size is compiled.
    """
    groups: list[list[int]] = []
    for number, row in enumerate(rows):
        for numbers in groups:
            if all(_alike(rows[numbers[0]][kind], row[kind]) for kind in row):
                numbers.append(number)
                break
        else:
            groups.append([number])
    if all_or_none and len(groups) > 1:
        groups = [[number] for number in range(len(rows))]
    return [
        (
            slice(None) if len(groups) == 1 else torch.tensor(numbers, device=device),
            {kind: _merge([rows[number][kind] for number in numbers], device) for kind in rows[0]},
        )
        for numbers in groups
    ]


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Same keys, shapes and constants; ComfyUI itself would also repeat texts to a common length."""
    a, b = one["model_conds"], other["model_conds"]
    return a.keys() == b.keys() and all(
        type(a[key]) is type(b[key]) and a[key].can_concat(b[key]) and a[key].size() == b[key].size()
        for key in a
    )


def _merge(entries: list[dict[str, Any]], device: Any) -> dict[str, Any]:
    conds = {}
    for key, first in entries[0]["model_conds"].items():
        own = [entry["model_conds"][key].process_cond(batch_size=1, area=None) for entry in entries]
        whole = own[0].concat(own[1:])
        conds[key] = first._copy_with(whole.to(device) if isinstance(whole, torch.Tensor) else whole)
    return {"model_conds": conds, "uuid": entries[0]["uuid"]}
