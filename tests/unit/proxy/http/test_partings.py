"""Connections that part take turns."""

from gateway.proxy.http.partings import Partings


class Client:
    def __init__(self) -> None:
        self.turns = 0

    def read_away(self) -> None:
        self.turns += 1


def test_a_few_at_once_and_the_others_in_turn() -> None:
    partings = Partings(2)
    clients = [Client() for _ in range(5)]
    for client in clients:
        partings.join(client)
    assert [client.turns for client in clients] == [1, 1, 0, 0, 0]
    partings.leave(clients[1])
    assert [client.turns for client in clients] == [1, 1, 1, 0, 0]
    partings.leave(clients[3])  # went while it waited
    partings.leave(clients[0])
    assert [client.turns for client in clients] == [1, 1, 1, 0, 1]


def test_leaving_twice_or_without_having_come_frees_nothing() -> None:
    partings = Partings(1)
    first, second, third = Client(), Client(), Client()
    partings.join(first)
    partings.join(second)
    partings.join(third)
    partings.leave(Client())
    partings.leave(first)
    partings.leave(first)
    assert [client.turns for client in (first, second, third)] == [1, 1, 0]
