"""Jobs in a SQL database: SQLite for one machine, PostgreSQL for several."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Connection,
    Engine,
    Row,
    Select,
    and_,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from serve_app.core.paging import NEWEST, Place
from serve_app.jobs.records import Delivery, DeliveryState, Job, JobState, Outcome
from serve_app.jobs.tables import CLOCK_OWNER, DELIVERIES, JOBS, PARTS, TURNS

log = structlog.get_logger(__name__)

SQLITE_WAIT_S: Final = 20
"""For another process's write, which takes milliseconds."""
_MIGRATION_LOCK: Final = 0x50_77_07_0A
_COLUMNS: Final = tuple(column for column in JOBS.columns if column.name != "result")
_WRITES: Final = "BEGIN IMMEDIATE"


class SqlStore:
    """A `JobStore` over one database; its tables are made or brought up to date where they are older."""

    failures: tuple[type[Exception], ...] = (SQLAlchemyError,)

    def __init__(self, url: str) -> None:
        """`url` as SQLAlchemy has it. Raises `SQLAlchemyError`, `OSError` where it cannot be opened."""
        self._engine = _engine(url)
        self._writing = self._engine.execution_options(begin=_WRITES)
        migrate(self._writing)

    def add(self, job: Job, *, max_waiting: int) -> Job | None:
        try:
            with self._writing.begin() as connection:
                if (older := self._of_key(connection, job)) is not None:
                    return older
                waiting = select(func.count()).where(
                    JOBS.c.owner == job.owner, JOBS.c.state == JobState.QUEUED
                )
                if connection.execute(waiting).scalar_one() >= max_waiting:
                    return None
                connection.execute(insert(JOBS).values(_fields(job)))
            return job
        except IntegrityError:  # PostgreSQL: another process was first with the same idempotency key
            with self._engine.begin() as connection:
                return self._of_key(connection, job)

    def _of_key(self, connection: Connection, job: Job) -> Job | None:
        if job.idempotency_key is None:
            return None
        query = select(*_COLUMNS).where(
            JOBS.c.owner == job.owner, JOBS.c.idempotency_key == job.idempotency_key
        )
        return _first(connection, query)

    def get(self, job_id: str, owner: str) -> Job | None:
        with self._engine.begin() as connection:
            return _first(connection, select(*_COLUMNS).where(JOBS.c.job_id == job_id, JOBS.c.owner == owner))

    def result(self, job_id: str) -> bytes | None:
        with self._engine.begin() as connection:
            found = connection.execute(select(JOBS.c.result).where(JOBS.c.job_id == job_id)).scalar()
        return None if found is None else bytes(found)

    def newest(self, owner: str, *, state: JobState | None, limit: int, before: Place = NEWEST) -> list[Job]:
        query = select(*_COLUMNS).where(JOBS.c.owner == owner)
        if before is not NEWEST:
            same = and_(JOBS.c.created_s == before.created_s, JOBS.c.job_id < before.item_id)
            query = query.where(or_(JOBS.c.created_s < before.created_s, same))
        if state is not None:
            query = query.where(JOBS.c.state == state)
        query = query.order_by(JOBS.c.created_s.desc(), JOBS.c.job_id.desc()).limit(limit)
        with self._engine.begin() as connection:
            return [_job(row) for row in connection.execute(query)]

    def claim(self, token: str, *, now_s: float, lease_s: float) -> Job | None:
        waits = or_(
            and_(JOBS.c.state == JobState.QUEUED, JOBS.c.due_s <= now_s),
            and_(JOBS.c.state == JobState.RUNNING, JOBS.c.lease_until_s < now_s),
        )
        query = (
            select(*_COLUMNS)
            .outerjoin(TURNS, TURNS.c.owner == JOBS.c.owner)
            .where(waits)
            .order_by(func.coalesce(TURNS.c.turn, 0), JOBS.c.created_s, JOBS.c.job_id)
            .limit(1)
        )
        clock = select(TURNS.c.turn).where(TURNS.c.owner == CLOCK_OWNER).with_for_update()
        if not self._any(waits):  # without taking the lock of those who write
            return None
        with self._writing.begin() as connection:
            turn = connection.execute(clock).scalar_one() + 1
            if (job := _first(connection, query)) is None:
                return None
            as_it_was = (JOBS.c.job_id == job.job_id, JOBS.c.state == job.state)
            held = {
                "state": JobState.RUNNING,
                "lease_token": token,
                "lease_until_s": now_s + lease_s,
                "attempts": job.attempts + 1,
                "started_s": now_s if job.started_s is None else job.started_s,
            }
            if connection.execute(update(JOBS).where(*as_it_was).values(held)).rowcount == 0:
                return None  # cancelled, or ended after all, since it was read (PostgreSQL)
            for owner in (CLOCK_OWNER, job.owner):
                turned = update(TURNS).where(TURNS.c.owner == owner).values(turn=turn)
                if connection.execute(turned).rowcount == 0:
                    connection.execute(insert(TURNS).values(owner=owner, turn=turn))
            return _first(connection, select(*_COLUMNS).where(JOBS.c.job_id == job.job_id))

    def _any(self, condition: Any) -> bool:
        with self._engine.begin() as connection:
            return bool(connection.execute(select(exists().where(condition))).scalar())

    def renew(self, job_id: str, token: str, *, lease_until_s: float, progress: float) -> bool:
        return self._change(job_id, token, lease_until_s=lease_until_s, progress=progress)

    def release(self, job_id: str, token: str, *, due_s: float, counts: bool) -> None:
        self._change(
            job_id,
            token,
            state=JobState.QUEUED,
            lease_token="",
            due_s=due_s,
            attempts=JOBS.c.attempts - (0 if counts else 1),
        )

    def _change(self, job_id: str, token: str, **values: Any) -> bool:
        with self._writing.begin() as connection:
            return connection.execute(_held(job_id, token).values(values)).rowcount == 1

    def keep_part(self, job_id: str, token: str, name: str, body: bytes) -> bool:
        with self._writing.begin() as connection:
            holds = select(JOBS.c.job_id).where(*_holds(job_id, token)).with_for_update()
            if connection.execute(holds).first() is None:
                return False
            connection.execute(delete(PARTS).where(PARTS.c.job_id == job_id, PARTS.c.name == name))
            connection.execute(insert(PARTS).values(job_id=job_id, name=name, body=body))
        return True

    def parts(self, job_id: str) -> dict[str, bytes]:
        with self._engine.begin() as connection:
            rows = connection.execute(select(PARTS.c.name, PARTS.c.body).where(PARTS.c.job_id == job_id))
            return {name: bytes(body) for name, body in rows}

    def finish(self, job_id: str, token: str, outcome: Outcome, webhook: Delivery | None) -> bool:
        with self._writing.begin() as connection:
            if not self._end(connection, job_id, outcome, token):
                return False
            if webhook is not None:
                connection.execute(insert(DELIVERIES).values(_delivery_fields(webhook)))
        return True

    def _end(self, connection: Connection, job_id: str, outcome: Outcome, token: str | None = None) -> bool:
        """`token` None: whoever holds it."""
        which = update(JOBS).where(JOBS.c.job_id == job_id) if token is None else _held(job_id, token)
        ended = which.values(
            state=outcome.state,
            progress=1.0 if outcome.state is JobState.DONE else JOBS.c.progress,
            ended_s=outcome.ended_s,
            expires_s=outcome.expires_s,
            result=outcome.result,
            error_code=outcome.error_code,
            error=outcome.error,
            lease_token="",
        )
        if connection.execute(ended).rowcount == 0:
            return False
        connection.execute(delete(PARTS).where(PARTS.c.job_id == job_id))
        return True

    def cancel(self, job_id: str, owner: str, *, now_s: float, expires_s: float) -> Job | None:
        mine = (JOBS.c.job_id == job_id, JOBS.c.owner == owner)
        with self._writing.begin() as connection:
            job = _first(connection, select(*_COLUMNS).where(*mine).with_for_update())
            if job is None or job.state.is_ended and job.audio:
                return job  # its audio is about to be deleted, and the row says where it is
            if job.state.is_ended:
                _forget(connection, JOBS.c.job_id == job_id)
                return job
            outcome = Outcome(state=JobState.CANCELLED, ended_s=now_s, expires_s=expires_s)
            self._end(connection, job_id, outcome)
            return _first(connection, select(*_COLUMNS).where(*mine))

    def done_with_audio(self, limit: int = 100) -> list[Job]:
        live = [state for state in JobState if not state.is_ended]
        query = select(*_COLUMNS).where(JOBS.c.audio != "", JOBS.c.state.not_in(live)).limit(limit)
        with self._engine.begin() as connection:
            return [_job(row) for row in connection.execute(query)]

    def audio_gone(self, job_id: str) -> None:
        with self._writing.begin() as connection:
            connection.execute(update(JOBS).where(JOBS.c.job_id == job_id).values(audio=""))

    def forget_expired(self, now_s: float) -> int:
        expired = and_(JOBS.c.expires_s < now_s, JOBS.c.audio == "")
        if not self._any(expired):
            return 0
        with self._writing.begin() as connection:
            return _forget(connection, expired)

    def num_open(self) -> tuple[int, int]:
        states = (JobState.QUEUED, JobState.RUNNING)
        query = select(JOBS.c.state, func.count()).where(JOBS.c.state.in_(states)).group_by(JOBS.c.state)
        with self._engine.begin() as connection:
            found = {state: int(number) for state, number in connection.execute(query)}
        return found.get(JobState.QUEUED, 0), found.get(JobState.RUNNING, 0)

    # -- webhooks ----------------------------------------------------------------------------------------

    def claim_deliveries(self, *, now_s: float, lease_s: float, limit: int) -> list[Delivery]:
        due = and_(DELIVERIES.c.state == DeliveryState.PENDING, DELIVERIES.c.due_s <= now_s)
        if not self._any(due):
            return []
        query = select(DELIVERIES).where(due).order_by(DELIVERIES.c.due_s).limit(limit)
        claimed = []
        with self._writing.begin() as connection:
            for row in connection.execute(query.with_for_update(skip_locked=True)).all():
                values = {"due_s": now_s + lease_s, "attempts": row.attempts + 1}
                which = DELIVERIES.c.delivery_id == row.delivery_id
                connection.execute(update(DELIVERIES).where(which).values(values))
                claimed.append(_delivery(row, **values))
        return claimed

    def settle_delivery(self, delivery: Delivery) -> None:
        with self._writing.begin() as connection:
            connection.execute(
                update(DELIVERIES)
                .where(DELIVERIES.c.delivery_id == delivery.delivery_id)
                .values(state=delivery.state, due_s=delivery.due_s, error=delivery.error)
            )

    def deliveries(self, owner: str, job_id: str) -> list[Delivery]:
        query = select(DELIVERIES).where(DELIVERIES.c.owner == owner, DELIVERIES.c.job_id == job_id)
        with self._engine.begin() as connection:
            return [_delivery(row) for row in connection.execute(query.order_by(DELIVERIES.c.created_s))]

    def replay(self, owner: str, job_ids: Sequence[str], *, now_s: float) -> int:
        which = DELIVERIES.c.job_id.in_(job_ids) if job_ids else DELIVERIES.c.state == DeliveryState.FAILED
        again = {"state": DeliveryState.PENDING, "due_s": now_s, "attempts": 0}
        with self._writing.begin() as connection:
            result = connection.execute(
                update(DELIVERIES).where(DELIVERIES.c.owner == owner, which).values(again)
            )
            return result.rowcount

    def close(self) -> None:
        self._engine.dispose()


def migrate(engine: Engine) -> None:
    """Make the tables or bring them up to date; of several processes that start at once one does it."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _engine(url: str) -> Engine:
    address = make_url(url)
    if address.get_backend_name() != "sqlite":
        return create_engine(address, pool_pre_ping=True, pool_size=4, connect_args={"connect_timeout": 10})
    if address.database and address.database != ":memory:":
        file = Path(address.database)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)  # what was said is in it; the files beside it get the same rights
    engine = create_engine(address, connect_args={"timeout": SQLITE_WAIT_S})
    event.listen(engine, "connect", _on_sqlite_connection)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _on_sqlite_connection(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says so
    deadline_s = time.monotonic() + SQLITE_WAIT_S
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        while True:
            try:
                connection.execute(f"PRAGMA {pragma}").close()
                break
            except sqlite3.OperationalError:  # for the first change of the journal SQLite does not wait
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    """Those that write take the lock at once: one that read before could not wait for it."""
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _forget(connection: Connection, which: Any) -> int:
    """Drop jobs with their webhooks."""
    gone = select(JOBS.c.job_id).where(which).scalar_subquery()
    connection.execute(delete(DELIVERIES).where(DELIVERIES.c.job_id.in_(gone)))
    return connection.execute(delete(JOBS).where(which)).rowcount


def _holds(job_id: str, token: str) -> tuple[Any, ...]:
    return (JOBS.c.job_id == job_id, JOBS.c.lease_token == token, JOBS.c.state == JobState.RUNNING)


def _held(job_id: str, token: str) -> Any:
    return update(JOBS).where(*_holds(job_id, token))


def _fields(job: Job) -> dict[str, Any]:
    fields = {name: getattr(job, name) for name in Job.__struct_fields__}
    return fields | {"parameters": json.dumps(job.parameters)}


def _delivery_fields(delivery: Delivery) -> dict[str, Any]:
    return {name: getattr(delivery, name) for name in Delivery.__struct_fields__}


def _first(connection: Connection, query: Select[Any]) -> Job | None:
    row = connection.execute(query.limit(1)).first()
    return None if row is None else _job(row)


def _job(row: Row[Any]) -> Job:
    fields = dict(row._mapping)
    parameters = tuple((name, value) for name, value in json.loads(fields.pop("parameters")))
    return Job(**{**fields, "state": JobState(fields["state"]), "parameters": parameters})


def _delivery(row: Row[Any], **changed: Any) -> Delivery:
    fields = {**row._mapping, **changed}
    fields |= {"state": DeliveryState(fields["state"]), "body": bytes(fields["body"])}
    return Delivery(**fields)
