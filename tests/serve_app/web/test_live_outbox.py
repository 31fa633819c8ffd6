import asyncio

from fakes.spoken_events import ANSWER, GREETING, WORDS, final, partial, revision

from serve_app.events import SpeechStarted
from serve_app.web.live.outbox import ChannelEvent, Outbox


async def drained(outbox):
    outbox.close()
    items = []
    while (item := await outbox.take()) is not None:
        items.append(item.event if isinstance(item, ChannelEvent) else item)
    return items


async def test_what_is_put_comes_out_in_order():
    outbox = Outbox()
    outbox.put_frames(["a", b"b"])
    outbox.put_event(0, SpeechStarted(0))
    outbox.put_event(0, partial("one", 0, 2.0))
    outbox.put_event(0, partial("one two", 0, 2.5))
    assert await drained(outbox) == [
        "a",
        b"b",
        SpeechStarted(0),
        partial("one", 0, 2.0),
        partial("one two", 0, 2.5),
    ]
    assert outbox.num_bytes == 0


async def test_interims_give_way_once_much_waits():
    outbox = Outbox(coalesce_bytes=1)
    outbox.put_event(0, partial("one", 0, 2.0))
    outbox.put_event(1, partial("uno", 0, 2.0))
    outbox.put_event(0, partial("one two", 0, 2.5))
    outbox.put_event(0, partial("next", 0, 4.0, number=1))
    outbox.put_event(0, final("One two.", WORDS, 0, 1.0, 2.5))
    texts = [event.text for event in await drained(outbox)]
    assert texts == ["uno", "next", "One two."]
    assert outbox.num_bytes == 0


async def test_an_interim_that_was_read_is_not_taken_back():
    outbox = Outbox(coalesce_bytes=0)
    outbox.put_event(0, partial("one", 0, 2.0))
    await outbox.take()
    outbox.put_event(0, partial("one two", 0, 2.5))
    assert [event.text for event in await drained(outbox)] == ["one two"]


async def test_finals_wait_and_fill_it():
    outbox = Outbox(max_bytes=10_000)
    number = 0
    while not outbox.overflowed.is_set():
        outbox.put_event(0, final("One two.", WORDS, number, 1.0, 2.5))
        number += 1
    assert 10_000 < outbox.num_bytes < 11_000
    outbox.clear()
    assert outbox.num_bytes == 0
    assert await drained(outbox) == []


async def test_whoever_takes_waits_for_what_comes():
    outbox = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.put_frames(["late"])
    assert await asyncio.wait_for(taking, 60) == "late"


async def test_only_the_newest_revision_of_a_final_waits():
    outbox = Outbox()
    outbox.put_event(0, GREETING)
    outbox.put_event(0, revision(GREETING, 0, 0, 0, 1, 1))
    outbox.put_event(1, revision(GREETING, 2, 2, 2, 2, 2))
    outbox.put_event(0, revision(ANSWER, 1, 1, 1, 1))
    newest = revision(GREETING, 1, 1, 1, 1, 1)
    outbox.put_event(0, newest)
    told = await drained(outbox)
    assert told == [
        GREETING,
        revision(GREETING, 2, 2, 2, 2, 2),
        revision(ANSWER, 1, 1, 1, 1),
        newest,
    ]
    assert outbox.num_bytes == 0


async def test_a_revision_that_was_read_is_not_taken_back():
    outbox = Outbox()
    first, second = revision(GREETING, 0, 0, 0, 0, 0), revision(GREETING, 1, 1, 1, 1, 1)
    outbox.put_event(0, first)
    assert await outbox.take() == ChannelEvent(0, first)
    outbox.put_event(0, second)
    assert await drained(outbox) == [second]
