"""The object graph of a `tf.train.Checkpoint`: which tensor is which variable of which object.

Source: `tensorflow/core/protobuf/trackable_object_graph.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from unirms.errors import CheckpointError

from ..protobuf import fields

KEY: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass(frozen=True)
class Node:
    """One object.

    Attributes:
        children: its parts: name -> number of their node.
        key: the key of its tensor, where it is a variable; "" otherwise.
        name: the name of that variable.
        slots: of an optimizer of Keras 2: the name of the slot, and the numbers of the nodes of variable and slot.
    """

    children: Mapping[str, int] = field(default_factory=dict)
    key: str = ""
    name: str = ""
    slots: tuple[tuple[str, int, int], ...] = ()


class Graph:
    """All objects of a checkpoint; the first is the root."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes

    @classmethod
    def parsed(cls, data: bytes) -> Graph:
        """Return the graph in a message.

        Raises:
            CheckpointError: it is none.
        """
        try:
            nodes = [_node(value) for number, value in fields(data) if number == 1]
            known = all(0 <= number < len(nodes) for node in nodes for number in _named(node))
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise CheckpointError(f"its object graph is damaged: {error}") from None
        if not known:
            raise CheckpointError("its object graph is damaged: it names an object that it has not")
        return cls(nodes)

    def child(self, node: Node, name: str) -> Node:
        """Return a part of an object; an empty one where there is none."""
        return self.nodes[node.children[name]] if name in node.children else Node()

    def parts(self, node: Node) -> list[Node]:
        """Return all parts of an object."""
        return [self.nodes[number] for number in node.children.values()]

    def items(self, node: Node, name: str) -> dict[int, Node]:
        """Return the variables in a list that is a part of an object, by their index; None in it is left out."""
        listed = self.child(node, name).children
        indices = sorted(int(index) for index in listed if index.isdecimal())
        return {index: self.nodes[listed[str(index)]] for index in indices if str(index) in listed}

    def having(self, *names: str) -> list[Node]:
        """Return the objects that have all of these parts."""
        return [node for node in self.nodes if all(name in node.children for name in names)]


def _named(node: Node) -> Iterator[int]:
    """Yield the numbers of the nodes that one names."""
    yield from node.children.values()
    for _, variable, slot in node.slots:
        yield from (variable, slot)


def _node(data: bytes) -> Node:
    children, key, name, slots = {}, "", "", []
    for number, value in fields(data):
        if number == 1:
            child = dict(fields(value))
            children[child.get(2, b"").decode()] = child.get(1, 0)
        elif number == 2:
            attribute = dict(fields(value))
            if attribute.get(1) == b"VARIABLE_VALUE":
                key, name = attribute.get(3, b"").decode(), attribute.get(2, b"").decode()
        elif number == 3:
            slot = dict(fields(value))
            slots.append((slot.get(2, b"").decode(), slot.get(1, 0), slot.get(3, 0)))
    return Node(children, key, name, tuple(slots))
