"""The object graph of a `tf.train.Checkpoint`: which tensor is which variable of which object.

Source: `tensorflow/core/protobuf/trackable_object_graph.proto`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from unirms.errors import CheckpointError

from .bundle import fields

KEY: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass(frozen=True)
class Node:
    """One object.

    Attributes:
        children: its parts: name -> number of their node.
        key: the key of its tensor, where it is a variable; "" otherwise.
        name: the name of that variable.
    """

    children: Mapping[str, int] = field(default_factory=dict)
    key: str = ""
    name: str = ""


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
        except (ValueError, IndexError, TypeError) as error:
            raise CheckpointError(f"its object graph is damaged: {error}") from None
        if any(not 0 <= child < len(nodes) for node in nodes for child in node.children.values()):
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


def _node(data: bytes) -> Node:
    children, key, name = {}, "", ""
    for number, value in fields(data):
        if number == 1:
            child = dict(fields(value))
            children[child.get(2, b"").decode()] = child.get(1, 0)
        elif number == 2:
            attribute = dict(fields(value))
            if attribute.get(1) == b"VARIABLE_VALUE":
                key, name = attribute.get(3, b"").decode(), attribute.get(2, b"").decode()
    return Node(children, key, name)
