"""The commands, their flags and their help; what they do is in the modules beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from serve_app import __version__
from serve_app.cli.console import QuietGroup, fail, leave, plain


class FlagError(ValueError):
    """An argument that is no flag."""


def parse_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Names (dashes to underscores) to values; a flag without one is "true", `--no-NAME` is "false".

    Whether the names exist is for the settings to say. Raises `FlagError` on anything that is no flag.
    """
    flags: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--") or len(argument) < 3:
            raise FlagError(f"{argument!r} is no flag: settings are given as --name value")
        name, equals, value = argument[2:].partition("=")
        if not equals:
            if rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            elif name.startswith("no-"):
                name, value = name.removeprefix("no-"), "false"
            else:
                value = "true"
        flags[name.replace("-", "_")] = value
    return flags


ANY_SETTING = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    name="sotto",
    cls=QuietGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut paths in a pipe
    add_completion=False,
)


def _group(name: str, meaning: str) -> typer.Typer:
    """Commands under one word."""
    group = typer.Typer(help=meaning, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name=name)
    return group


models_app = _group("models", "Find, fetch, check and load models.")
keys_app = _group("keys", "Make, list and revoke the keys of a service.")
audit_app = _group("audit", "Verify and read the audit log.")
privacy_app = _group("privacy", "Deletion on request.")
jobs_app = _group("jobs", "Recordings in the queue of a running server.")
webhooks_app = _group("webhooks", "Webhooks of a running server's jobs.")

Url = Annotated[
    str | None, typer.Option(help="Address of a running server; else STT_SERVICE_URL, else this machine.")
]
ApiKey = Annotated[str | None, typer.Option(help="Key that the server asks for; else STT_API_KEY.")]
Language = Annotated[str | None, typer.Option(help="Language code; without it the server decides.")]
ModelNames = Annotated[
    list[str] | None, typer.Argument(help="Model names or folders; without them those of the settings.")
]
KeysFile = Annotated[
    Path | None, typer.Option("--file", help="File of the keys; else STT_KEYS_FILE, or Redis as it is set.")
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
JobId = Annotated[str, typer.Argument(help="As the server answered it.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        plain(f"sotto {__version__}")
        raise typer.Exit


@app.callback()
def sotto(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and end.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Self-hosted streaming speech to text."""


@app.command(context_settings=ANY_SETTING)
def serve(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Model of interims and finals.")] = None,
    language: Language = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of every door.")] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM): the port speaks HTTPS, HTTP/2 and WSS.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Its private key (PEM), where it is not in the same file.")
    ] = None,
    tls_self_signed: Annotated[
        bool, typer.Option("--tls-self-signed", help="TLS with a certificate made here, for trying it out.")
    ] = False,
    profile: Annotated[str | None, typer.Option(help="auto, cpu or gpu.")] = None,
    config: Annotated[Path | None, typer.Option(help="A Serve config file of your own.")] = None,
    env_file: Annotated[Path | None, typer.Option(help="A file of settings, NAME=VALUE a line.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Deploy onto this running Ray instead of starting one.")
    ] = None,
    num_cpus: Annotated[int | None, typer.Option(help="Cores that Ray may count with.")] = None,
    num_gpus: Annotated[int | None, typer.Option(help="GPUs that Ray may count with.")] = None,
) -> None:
    """Start the service on this machine. Every other setting is a flag too: --vad-threshold 0.4."""
    from serve_app.cli.serving import run_service
    from serve_app.launch.cluster import ClusterOptions

    given: dict[str, object] = {
        "model": model,
        "language": language,
        "host": host,
        "port": port,
        "profile": profile,
    }
    for name, path in (("tls_cert", tls_cert), ("tls_key", tls_key)):
        # Where a renewal swaps symbolic links, these must still be followed later.
        given[name] = str(path.absolute()) if path is not None else None
    given["tls_self_signed"] = tls_self_signed or None
    try:
        flags = {**parse_flags(context.args), **{k: v for k, v in given.items() if v is not None}}
    except FlagError as error:
        fail(str(error))
    cluster = ClusterOptions(ray_address, num_cpus, num_gpus)
    raise typer.Exit(run_service(flags, config_path=config, env_file=env_file, cluster=cluster))


@app.command()
def transcribe(
    files: Annotated[
        list[Path], typer.Argument(help="Recordings, folders of them, patterns; - is standard input.")
    ],
    url: Url = None,
    output_format: Annotated[str, typer.Option("--format", help="text, json, srt or vtt.")] = "text",
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Write a file for each recording here; subtitles of several: else the working folder."
        ),
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Write a file for each recording, beside it.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write files anew that exist.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out recordings whose files exist: go on after a stop.")
    ] = False,
    language: Language = None,
    diarize: Annotated[
        bool | None, typer.Option("--diarize/--no-diarize", help="Say who spoke; else the server decides.")
    ] = None,
    num_speakers: Annotated[
        int | None, typer.Option(help="So many speakers, where that is known; means --diarize.", min=1)
    ] = None,
    api_key: ApiKey = None,
) -> None:
    """Transcribe recordings through a running server. Status: 0, 1 some failed, 2 usage, 3 damaged audio."""
    from serve_app.cli.client import STDIN, find_server, refuse_terminal
    from serve_app.cli.recordings import SUBTITLES, SUFFIXES, Output, find_recordings, transcribe_files
    from sotto_client.recordings import UploadOptions

    if output_format not in SUFFIXES:
        fail(f"--format must be one of {', '.join(SUFFIXES)}, got {output_format!r}")
    if files.count(STDIN) > 1:
        fail("standard input can be read once: give - once")
    if STDIN in files:
        refuse_terminal()
    if beside and (output_dir is not None or STDIN in files):
        fail("--beside is for recordings in files, and excludes --output-dir")
    if resume and (overwrite or not (beside or output_dir)):
        fail("--resume needs --output-dir or --beside, and excludes --overwrite")
    server = find_server(url, api_key)
    recordings = find_recordings(files)
    if output_dir is None and not beside and output_format in SUBTITLES and len(recordings) > 1:
        output_dir = Path()
    if num_speakers is not None and diarize is None:
        diarize = True
    options = UploadOptions(
        language=language, diarize=diarize, num_speakers=num_speakers, api_key=server.api_key
    )
    output = Output(output_format, output_dir, overwrite, beside=beside, resume=resume)
    raise typer.Exit(transcribe_files(recordings, server.url, output, options))


@app.command()
def live(
    file: Annotated[Path, typer.Argument(help="A recording; - is standard input, sent as it comes.")],
    url: Url = None,
    language: Language = None,
    speed: Annotated[
        float | None, typer.Option(help="Of a recording; without it 1, real time.", min=0.1, max=100.0)
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(help="Standard input is raw 16-bit mono at this rate; else a container.", min=1),
    ] = None,
    api_key: ApiKey = None,
    diarization: Annotated[
        bool | None, typer.Option(help="Say who spoke, or not; else as the server does.")
    ] = None,
) -> None:
    """Stream a recording as a microphone would, and show interim text turn into final text."""
    from serve_app.cli.client import STDIN, find_server, refuse_terminal
    from serve_app.cli.live import LiveRequest, show_live
    from sotto_client.live import SessionConfig

    if file == STDIN:
        refuse_terminal()
    if file == STDIN and speed is not None:
        fail("--speed is for recordings: standard input is sent as it comes")
    if file != STDIN and sample_rate is not None:
        fail("--sample-rate is for standard input (-): a recording says its own")
    config = SessionConfig(lang_code=language, diarization=diarization, sample_rate=sample_rate)
    raise typer.Exit(show_live(LiveRequest(file, config, speed or 1.0), find_server(url, api_key)))


@app.command()
def doctor(
    port: Annotated[int, typer.Option(help="The port you mean to serve on.")] = 8000,
    measure: Annotated[
        bool, typer.Option(help="Decode a while: which engine costs less, how many may talk at once?")
    ] = True,
) -> None:
    """Check this machine: Python, packages, cores, memory, GPU, models, ports, HAProxy, Ray, its speed."""
    from serve_app.cli.doctor import examine

    raise typer.Exit(examine(port, measure=measure))


@app.command()
def health(
    url: Url = None,
    slack_webhook: Annotated[
        str | None,
        typer.Option(help="Address that Slack gave for messages, told of changes; else SLACK_WEBHOOK_URL."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.1, max=600)] = 10.0,
    as_json: AsJson = False,
    api_key: ApiKey = None,
) -> None:
    """Is a running server well? Status: 0 well, 1 degraded, 2 down."""
    from serve_app.cli.client import find_server, slack_address
    from serve_app.cli.health import check_health

    server, webhook = find_server(url, api_key), slack_address(slack_webhook)
    status = check_health(server, timeout_s=timeout, slack_webhook=webhook, as_json=as_json)
    raise typer.Exit(status)


@app.command()
def plan(
    speakers: Annotated[int | None, typer.Option(help="Live speakers at once.")] = None,
    here: Annotated[bool, typer.Option("--here", help="Say how many this machine holds.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Model of finals: else large-v3-turbo, tiny.en on a CPU.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="H200, L4, ... or cpu.")] = "cpu",
    interim_model: Annotated[str, typer.Option(help="Model of interims, on a GPU.")] = "small",
    price: Annotated[float | None, typer.Option(help="Of one GPU or machine per hour.")] = None,
    p95_ms: Annotated[float, typer.Option("--p95-ms", help="Finals may take so long.")] = 900.0,
    speech_share: Annotated[float, typer.Option(help="How much of the time people talk.")] = 0.87,
    batch: Annotated[int, typer.Option(help="Windows in one batch on a GPU.")] = 8,
    figures: Annotated[Path | None, typer.Option(help="Batches measured by benchmarks.gpu, as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """How many GPUs or machines so many speakers need, how late their text will be, what it costs."""
    from serve_app.cli.planning import show_here, show_plan

    if here:
        raise typer.Exit(show_here(model, as_json))
    if speakers is None:
        raise typer.BadParameter("say --speakers NUMBER, or --here")
    given = {
        "speakers": speakers,
        "interim_model": interim_model,
        "price": price,
        "p95_ms": p95_ms,
        "batch": batch,
    }
    raise typer.Exit(show_plan(model, gpu, speech_share, figures, as_json, **given))


@models_app.command("list")
def models_list(as_json: AsJson = False) -> None:
    """All known models: their sizes and languages, and where each is found on this machine."""
    from serve_app.cli.models import list_models

    raise typer.Exit(list_models(as_json))


@models_app.command("info")
def models_info(
    name: Annotated[str, typer.Argument(help="A model's name, hub id or folder.")],
    verify: Annotated[bool, typer.Option("--verify", help="Read the files and compare their sums.")] = False,
    as_json: AsJson = False,
) -> None:
    """Everything that is known about one model; asks no network."""
    from serve_app.cli.models import describe_one

    raise typer.Exit(describe_one(name, verify=verify, as_json=as_json))


@models_app.command("pull")
def models_pull(
    names: ModelNames = None,
    into: Annotated[
        Path | None, typer.Option("--to", help="Also put them into this folder, fit to be copied elsewhere.")
    ] = None,
) -> None:
    """Fetch models ahead of time, so that later starts need no network."""
    from serve_app.cli.models import pull_models

    raise typer.Exit(pull_models(names, into))


@models_app.command("verify")
def models_verify(names: ModelNames = None) -> None:
    """Check the files of models, with checksums where they are known; never asks the network."""
    from serve_app.cli.models import verify_models

    raise typer.Exit(verify_models(names))


@models_app.command("warm")
def models_warm(names: ModelNames = None) -> None:
    """Fetch models and load each once, as the service does."""
    from serve_app.cli.models import warm_models

    raise typer.Exit(warm_models(names))


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="Whose key it is, for lists and logs.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="live, recordings, metrics or admin; several times for several.")
    ] = None,
    sessions: Annotated[int | None, typer.Option(help="Live sessions at once.", min=1)] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    requests_per_day: Annotated[int | None, typer.Option(min=1)] = None,
    audio_minutes_per_minute: Annotated[float | None, typer.Option(min=0.01)] = None,
    audio_minutes_per_day: Annotated[float | None, typer.Option(min=0.01)] = None,
    expires: Annotated[str | None, typer.Option(help="12h, 30d, 8w or 2027-01-31; else never.")] = None,
    file: KeysFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, once. Without --scope: live and recordings."""
    from serve_app.access.caller import KeyLimits
    from serve_app.cli.keys import create_key

    limits = KeyLimits(
        sessions=sessions,
        requests_per_minute=requests_per_minute,
        requests_per_day=requests_per_day,
        audio_minutes_per_minute=audio_minutes_per_minute,
        audio_minutes_per_day=audio_minutes_per_day,
    )
    scopes = scope or ["live", "recordings"]
    raise typer.Exit(create_key(name, scopes, limits, expires, file, as_json=as_json))


@keys_app.command("list")
def keys_list(file: KeysFile = None, as_json: AsJson = False) -> None:
    """All keys: whose they are, what they open, until when. Never a key itself."""
    from serve_app.cli.keys import list_keys

    raise typer.Exit(list_keys(file, as_json=as_json))


@keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="The id of a key, or a name that only one has.")],
    file: KeysFile = None,
    as_json: AsJson = False,
) -> None:
    """Refuse a key from now on; its live sessions end with a reason, within seconds."""
    from serve_app.cli.keys import revoke_key

    raise typer.Exit(revoke_key(key, file, as_json=as_json))


AuditDir = Annotated[
    Path | None, typer.Option("--dir", help="Folder of the log; else STT_AUDIT_LOG_DIR. Key: STT_AUDIT_KEY.")
]
EnvFile = Annotated[Path | None, typer.Option(help="A file of settings, NAME=VALUE a line.")]
Since = Annotated[str | None, typer.Option(help="From this date or time on (UTC).")]
Until = Annotated[str | None, typer.Option(help="Up to this date or time (UTC).")]
OfKey = Annotated[str | None, typer.Option("--key", help="Of the key with this id.")]
OfSession = Annotated[str | None, typer.Option("--session", help="Of the session with this id.")]


@audit_app.command("verify")
def audit_verify(
    folder: AuditDir = None,
    env_file: EnvFile = None,
    heads: Annotated[
        Path | None, typer.Option(help="What `audit heads` printed, kept elsewhere: it must still hold.")
    ] = None,
) -> None:
    """Whether every line is there as it was written. Status: 0 yes, 1 no, 2 usage."""
    from serve_app.cli.audit import verify_audit, where_it_is

    raise typer.Exit(verify_audit(*where_it_is(folder, env_file), heads))


@audit_app.command("heads")
def audit_heads(folder: AuditDir = None, env_file: EnvFile = None) -> None:
    """Where all chains stand now: to be kept where the service cannot write."""
    from serve_app.cli.audit import show_heads, where_it_is

    raise typer.Exit(show_heads(*where_it_is(folder, env_file)))


@audit_app.command("show")
def audit_show(
    folder: AuditDir = None,
    env_file: EnvFile = None,
    since: Since = None,
    until: Until = None,
    key: OfKey = None,
    session: OfSession = None,
) -> None:
    """Who used which door, when, how long, with what outcome; for a person."""
    from serve_app.cli.audit import show_audit, wanted, where_it_is

    where = where_it_is(folder, env_file)
    raise typer.Exit(show_audit(*where, wanted(env_file, since, until, key, session), "text"))


@audit_app.command("export")
def audit_export(
    folder: AuditDir = None,
    env_file: EnvFile = None,
    since: Since = None,
    until: Until = None,
    key: OfKey = None,
    session: OfSession = None,
    output_format: Annotated[str, typer.Option("--format", help="jsonl or csv.")] = "jsonl",
) -> None:
    """The same for another program, on standard output."""
    from serve_app.cli.audit import show_audit, wanted, where_it_is

    if output_format not in ("jsonl", "csv"):
        fail(f"--format must be jsonl or csv, got {output_format!r}")
    where = where_it_is(folder, env_file)
    raise typer.Exit(show_audit(*where, wanted(env_file, since, until, key, session), output_format))


@privacy_app.command("delete")
def privacy_delete(
    session: OfSession = None,
    key: OfKey = None,
    clip: Annotated[str | None, typer.Option("--clip", help="The clip with this id.")] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Also who it was in the audit log; its lines stay.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Have a running server erase what it keeps. Status: 0, 1 something may be left, 2 usage."""
    from serve_app.cli.client import find_server
    from serve_app.cli.erasing import delete_data

    given = {"session": session, "key": key, "clip": clip}
    what = {name: value for name, value in given.items() if value}
    if len(what) != 1:
        fail("name one of --session, --key and --clip")
    raise typer.Exit(delete_data(find_server(url, api_key), what, audit=audit))


@jobs_app.command("list")
def jobs_list(
    status: Annotated[
        str | None, typer.Option(help="Only those: queued, running, done, failed or cancelled.")
    ] = None,
    limit: Annotated[int, typer.Option(help="The largest number to list.", min=1, max=100)] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """The newest jobs of this key."""
    from serve_app.cli.client import find_server
    from serve_app.cli.jobs import list_jobs

    raise typer.Exit(list_jobs(find_server(url, api_key), status, limit, as_json=as_json))


@jobs_app.command("show")
def jobs_show(job_id: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """The text of a job, or where it is."""
    from serve_app.cli.client import find_server
    from serve_app.cli.jobs import show_job

    raise typer.Exit(show_job(find_server(url, api_key), job_id, as_json=as_json))


@jobs_app.command("wait")
def jobs_wait(job_id: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Wait until a job has ended, and show it."""
    from serve_app.cli.client import find_server
    from serve_app.cli.jobs import wait_for_job

    raise typer.Exit(wait_for_job(find_server(url, api_key), job_id, as_json=as_json))


@jobs_app.command("cancel")
def jobs_cancel(job_id: JobId, url: Url = None, api_key: ApiKey = None) -> None:
    """Stop a job; one that has ended is forgotten, with its text."""
    from serve_app.cli.client import find_server
    from serve_app.cli.jobs import cancel_job

    raise typer.Exit(cancel_job(find_server(url, api_key), job_id))


@webhooks_app.command("replay")
def webhooks_replay(
    job_ids: Annotated[
        list[str] | None, typer.Argument(help="Webhooks of these jobs; without any all that failed.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Send webhooks again, under the ids that they had."""
    from serve_app.cli.client import find_server
    from serve_app.cli.jobs import replay_webhooks

    raise typer.Exit(replay_webhooks(find_server(url, api_key), job_ids or []))


def main() -> None:
    """Entry point of `sotto`."""
    try:
        app()
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 1 if end.code else 0)
