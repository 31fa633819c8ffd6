import socket

from serve_app.launch.ports import free_ports, port_is_free, prefer_port


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(port_is_free(port) for port in ports)


def test_a_listening_port_is_taken_and_another_is_chosen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not port_is_free(port)
        assert prefer_port(port) != port
    assert prefer_port(port) == port
