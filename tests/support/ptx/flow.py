"""The order in which blocks of instructions take their turn.

A block comes after everything that leads to it within a turn of the loops around it, and what follows a loop after all
of the loop. Threads that part therefore meet again where their ways join, wherever the compiler has put the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Edges = Mapping[int, Sequence[int]]


def turn_order(edges: Edges, first: int) -> list[int]:
    """Blocks that can be reached from the first, which is theirs alone to be entered by."""
    reached, ahead = {first}, [first]
    while ahead:
        new = {node for node in edges[ahead.pop()] if node not in reached}
        reached |= new
        ahead.extend(new)
    return _order(reached, edges, first)


def _order(nodes: set[int], edges: Edges, entry: int) -> list[int]:
    """Edges back to the entry are the loop's own: without them what remains are loops within, in order."""
    inner = {node: [to for to in edges[node] if to in nodes and to != entry] for node in nodes}
    order: list[int] = []
    for part in reversed(_components(inner, entry)):
        if len(part) == 1:
            order += part
            continue
        entries = {to for node in nodes - set(part) for to in inner[node] if to in part}
        if len(entries) != 1:
            raise ValueError(f"a loop is entered at several places: {sorted(entries)}")
        order += _order(set(part), edges, entries.pop())
    return order


def _components(edges: Edges, first: int) -> list[list[int]]:
    """Strongly connected components, each after those that it leads to (Tarjan's algorithm, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    found: list[list[int]] = []
    held: set[int] = set()
    work = [(first, iter(edges[first]))]
    while work:
        node, following = work[-1]
        if node not in index:
            index[node] = low[node] = len(index)
            stack.append(node)
            held.add(node)
        following_node = next(following, None)
        if following_node is None:
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[node])
            if low[node] == index[node]:
                place = stack.index(node)
                found.append(stack[place:])
                held -= set(stack[place:])
                del stack[place:]
        elif following_node not in index:
            work.append((following_node, iter(edges[following_node])))
        elif following_node in held:
            low[node] = min(low[node], index[following_node])
    return found
