"""The story of a compilation, told from its record alone: node by node, both ways, and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphopt.rewrite.record import Applied, Missed, NodeEntry, Quarantined, Record, Summary


def count(number: int) -> str:
    """A number for people: 1234567 as 1.23 M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit * 0.9995:  # what would be rounded up to 1000 is one of the next unit
            return f"{number / limit:.3g} {unit}"
    return str(number)


def size(number: int) -> str:
    """A number of bytes for people: 37600 as 37.6 kB."""
    text = count(number)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def table(
    before: Summary,
    after: Summary,
    applied: Sequence[Applied],
    missed: Sequence[Missed],
    quarantined: Sequence[Quarantined] = (),
) -> str:
    """Nodes, MACs and bytes before and after, rewrites by rule, refusals by reason."""
    rows = [
        ("", "before", "after"),
        ("nodes", str(before.nodes), str(after.nodes)),
        ("MACs", count(before.macs), count(after.macs)),
        ("bytes moved", count(before.bytes_moved), count(after.bytes_moved)),
        ("constants", size(before.constant_bytes), size(after.constant_bytes)),
    ]
    lines = [f"{a:<14}{b:>12}{c:>12}" for a, b, c in rows]
    if applied:
        lines += ["", f"{'pass':<22}{'rule':<24}{'class':<10}{'times':>6}"]
        lines += [f"{p:<22}{r:<24}{c:<10}{n:>6}" for (p, r, c), n in rules_applied(applied).items()]
    if missed:
        lines += ["", "missed"]
        lines += [f"  {m.rule} at `{m.label}`: {m.reason}" for m in missed[:20]]
        if len(missed) > 20:
            lines.append(f"  ... and {len(missed) - 20} more in `.missed`")
    for q in quarantined:
        lines += ["", f"quarantined: {q.rule} at `{q.label}`: {q.error}"]
    return "\n".join(lines)


def rules_applied(applied: Iterable[Applied]) -> dict[tuple[str, str, str], int]:
    """How often each rule applied, by (pass, rule, class), in order of the first time."""
    found: dict[tuple[str, str, str], int] = {}
    for step in applied:
        key = (step.pass_name, step.rule, step.cls)
        found[key] = found.get(key, 0) + 1
    return found


@dataclass(frozen=True)
class Story:
    """What became of a source node: the steps that touched it, the nodes that carry it on, and what was refused."""

    node: NodeEntry
    steps: tuple[Applied, ...]
    became: tuple[NodeEntry, ...]
    missed: tuple[Missed, ...]


@dataclass(frozen=True)
class Origin:
    """Where a node of the result comes from: the source nodes in it and the steps that made it."""

    node: NodeEntry
    sources: tuple[NodeEntry, ...]
    steps: tuple[Applied, ...]


class Explanation:
    """Stories of all nodes of one record."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.entries: dict[int, NodeEntry] = {n.id: n for n in record.nodes}
        self.left: dict[int, NodeEntry] = {n.id: n for n in record.remaining}  # as they are called in the end
        self._maker: dict[int, Applied] = {}
        self._steps: dict[int, list[Applied]] = {}
        self._heirs: dict[int, list[int]] = {}
        for step in record.applied:
            for made in step.made:
                self.entries[made.id] = made
                self._maker[made.id] = step
            for gone in step.removed:
                self._steps.setdefault(gone, []).append(step)
                self._heirs.setdefault(gone, []).extend(self._heirs_in(step, gone))
        self._missed: dict[int | str, list[Missed]] = {}
        for miss in record.missed:
            self._missed.setdefault(miss.root, []).append(miss)

    def _heirs_in(self, step: Applied, gone: int) -> list[int]:
        """The nodes that carry a removed one on: all that were made, but for one that went with what held it."""
        if gone in step.matched:
            return [*(m.id for m in step.made), *step.kept]
        return [m.id for m in step.made if _is_copy(m, self.entries[gone])]

    def stories(self) -> list[Story]:
        """One story for each node of the input, in order."""
        return [self._story(n) for n in self.record.nodes]

    def _story(self, node: NodeEntry) -> Story:
        steps: dict[int, Applied] = {}
        became: dict[int, None] = {}
        todo, seen = [node.id], set()
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            heirs = self._heirs.get(current)
            if heirs is None:
                became[current] = None
                continue
            steps.update((s.number, s) for s in self._steps[current])
            todo += heirs
        missed = [m for i in became for m in self._missed.get(i, ())]
        nodes = tuple(self.left.get(i) or self.entries[i] for i in sorted(became))
        return Story(node, tuple(steps[k] for k in sorted(steps)), nodes, tuple(missed))

    def origins(self) -> list[Origin]:
        """One origin for each node of the result, in order."""
        return list(map(self._origin, self.record.remaining))

    def _origin(self, node: NodeEntry) -> Origin:
        steps: dict[int, Applied] = {}
        sources: dict[int, None] = {}
        todo, seen = [node.id], set()
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            maker = self._maker.get(current)
            if maker is None:
                sources[current] = None
                continue
            steps[maker.number] = maker
            copied = [
                g for g in maker.removed if g not in maker.matched and _is_copy(self.entries[current], self.entries[g])
            ]
            todo += copied or [g for g in maker.removed if g in maker.matched]
        return Origin(node, tuple(self.entries[i] for i in sorted(sources)), tuple(steps[k] for k in sorted(steps)))


def _is_copy(made: NodeEntry, gone: NodeEntry) -> bool:
    return (made.op, made.name, made.source) == (gone.op, gone.name, gone.source)


def title(node: NodeEntry) -> str:
    """A node for people: operator, name, and the module it came from."""
    name = node.name or (node.gives[0] if node.gives else "")
    return f"{node.op} `{name}`" + (f" ({node.source})" if node.source else "")


def explain(record: Record) -> str:
    """Every node's story, from the source's nodes to the result's and back."""
    told = Explanation(record)
    lines = [f"From the source: {len(record.nodes)} nodes", ""]
    for story in told.stories():
        lines.append(f"  {title(story.node)}")
        lines += [f"      {sentence(s)}" for s in story.steps]
        if story.became and [n.id for n in story.became] != [story.node.id]:
            lines.append(f"      now part of {', '.join(title(n) for n in story.became)}")
        elif not story.became:
            lines.append(f"      {_last_words(story)}")
        elif not story.steps:
            lines.append("      kept as it is")
        lines += [f"      not done: {m.rule}: {m.reason}{_worth(m)}" for m in story.missed]
    lines += ["", f"To the result: {len(record.remaining)} nodes", ""]
    for origin in told.origins():
        lines.append(f"  {title(origin.node)}")
        if origin.steps:
            lines.append(f"      made of {', '.join(title(n) for n in origin.sources) or 'constants'}")
    elsewhere = [m for m in record.missed if isinstance(m.root, str)]
    if elsewhere:
        lines += ["", "Values", *(f"  `{m.root}`: not done: {m.rule}: {m.reason}" for m in elsewhere)]
    for q in record.quarantined:
        where = f"; reproducer in {q.reproducer}" if q.reproducer else ""
        lines += ["", f"Quarantined: {q.rule} at `{q.label}`: {q.error}{where}"]
    return "\n".join(lines) + "\n"


def _last_words(story: Story) -> str:
    """What is left of a node that no other node carries on: a constant, another value, or nothing."""
    for step in reversed(story.steps):
        if story.node.id in step.removed and story.node.id not in step.matched:
            return "gone with the node that held it"
        for old, new in step.replaced:
            if old in story.node.gives or old == new:
                return f"`{new}` is a constant now" if old == new else f"`{new}` is read instead"
    return "nothing of it is left"


def sentence(step: Applied) -> str:
    """One step in words."""
    saved = step.saved
    effect = [f"{saved.nodes} nodes fewer"] if saved.nodes > 1 else ["1 node fewer"] if saved.nodes == 1 else []
    effect += [f"{size(saved.bytes)} less to move"] if saved.bytes > 0 else []
    effect += [f"{size(step.bytes_added)} of constants more"] if step.bytes_added > 0 else []
    facts = ", ".join(f"{k} {v}" for k, v in step.facts.items())
    detail = "; ".join(part for part in (facts, ", ".join(effect)) if part)
    return f"{step.pass_name}/{step.rule} ({step.cls})" + (f": {detail}" if detail else "")


def _worth(missed: Missed) -> str:
    w = missed.worth
    parts = [f"{w.nodes} node" if w.nodes == 1 else f"{w.nodes} nodes"] if w.nodes else []
    parts += [f"{count(w.macs)} MACs"] if w.macs else []
    parts += [f"{size(w.bytes)} moved"] if w.bytes else []
    return f" (worth {', '.join(parts)})" if parts else ""
