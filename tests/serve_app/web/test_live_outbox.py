import asyncio

from hypothesis import given
from hypothesis import strategies as st

from fakes.spoken_events import ANSWER, GREETING, WORDS, final, partial, revision
from serve_app.core.events import Final, Partial, SpeechStarted
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


KINDS = st.sampled_from(["partial", "final", "revision", "take"])
STEPS = st.lists(st.tuples(KINDS, st.integers(0, 1), st.integers(0, 3)), max_size=80)
INTERIM_BYTES = 400 + 2 * len("one two")


def event_of(kind, channel, number):
    if kind == "partial":
        return partial("one two", 0, 2.5, number=number)
    if kind == "final":
        return final("One two.", WORDS, number, 1.0, 2.5)
    return revision(GREETING, channel, 1, 1, 1, 1)


@given(STEPS, st.sampled_from([0, 1_000, 16_384]))
def test_no_final_is_lost_and_interims_take_a_bounded_room(steps, coalesce_bytes):
    """However slowly it is read: finals come out in order, each once."""

    async def run():
        outbox = Outbox(coalesce_bytes=coalesce_bytes)
        finals, told, utterances = [], [], set()
        for kind, channel, number in steps:
            if kind == "take":
                if outbox.num_bytes:
                    told.append(await outbox.take())
                continue
            event = event_of(kind, channel, number)
            outbox.put_event(channel, event)
            utterances.add((channel, number))
            if kind == "final":
                finals.append(ChannelEvent(channel, event))
            waiting = [item for item in outbox._items.values() if isinstance(item.event, Partial)]
            assert len(waiting) * INTERIM_BYTES <= coalesce_bytes + INTERIM_BYTES * (len(utterances) + 1)
        outbox.close()
        while (item := await outbox.take()) is not None:
            told.append(item)
        assert [item for item in told if isinstance(item.event, Final)] == finals
        assert outbox.num_bytes == 0

    asyncio.run(run())
