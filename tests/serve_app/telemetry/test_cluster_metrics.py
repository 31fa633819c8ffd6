import asyncio

import httpx
import pytest

from serve_app.telemetry.cluster import ClusterMetrics

LINE = 'ray_stt_active_connections{WorkerId="w"} 2.0\n'


class Nodes:
    """Exporters by host name; counts how often each was asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    async def __call__(self, request):
        self.asked.append(request.url.host)
        answer = self.answers[request.url.host]
        if isinstance(answer, Exception):
            raise answer
        if answer == "hang":
            await asyncio.sleep(60)
        return httpx.Response(answer) if isinstance(answer, int) else httpx.Response(200, text=answer)

    def urls(self):
        return [f"http://{name}:1/metrics" for name in self.answers]


def cluster(nodes, **options):
    return ClusterMetrics(nodes.urls, transport=httpx.MockTransport(nodes), **options)


async def test_all_nodes_are_merged():
    text = await cluster(Nodes(a=LINE, b=LINE)).text()
    assert "stt_active_connections 4.0\n" in text


@pytest.mark.parametrize(
    "fault", [httpx.ConnectError("no"), "hang", 500, "x" * 2_000], ids=["dead", "hang", "500", "big"]
)
async def test_a_node_at_fault_is_left_out(fault):
    nodes = Nodes(a=LINE, b=fault)
    text = await cluster(nodes, timeout_s=0.05, max_bytes=1_000).text()
    assert "stt_active_connections 2.0\n" in text
    assert sorted(nodes.asked) == ["a", "b"]


async def test_answers_are_kept_for_a_while_and_shared():
    nodes = Nodes(a=LINE)
    metrics = cluster(nodes, cache_s=60)
    await asyncio.gather(*(metrics.text() for _ in range(5)))
    await metrics.text()
    assert nodes.asked == ["a"]


async def test_answers_are_fetched_again_when_old():
    nodes = Nodes(a=LINE)
    metrics = cluster(nodes, cache_s=0.0)
    await metrics.text()
    nodes.answers["a"] = LINE.replace("2.0", "3.0")
    assert "stt_active_connections 3.0\n" in await metrics.text()


async def test_no_nodes_give_the_empty_families():
    assert "stt_active_connections 0.0\n" in await cluster(Nodes()).text()
