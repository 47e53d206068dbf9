"""What is built and installed is whole, and works from inside and outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"oscar_x": "oscar_x", **{f"oscar_x.{name}": name for name in ("adapters", "kernels", "evals", "assets")}}

IMPORTS = """
import importlib.resources, pathlib, oscar_x, oscar_x.adapters, oscar_x.kernels, oscar_x.evals, oscar_x.assets
import oscar_x.loading, oscar_x.adapters.registry, oscar_x.kernels.pack, oscar_x.evals.methods, oscar_x.cli
text = importlib.resources.files("oscar_x.assets").joinpath("text/kjv.txt").read_text(encoding="utf-8")
assert len(text) > 100_000, "the text is cut"
assert oscar_x.adapters.registry.all_adapters(), "no adapter"
assert oscar_x.evals.methods.baseline_methods(), "no baseline"
print(oscar_x.__version__, pathlib.Path(oscar_x.__file__).resolve())
"""


def source_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, built from a copy of the files that git knows."""
    work = tmp_path_factory.mktemp("build")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True
    )
    if listed.returncode != 0:
        pytest.skip("needs a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            target = work / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-c", f"import setuptools.build_meta as b; b.build_sdist({str(work)!r})", cwd=work / "source")
    sdist = next(work.glob("*.tar.gz"))
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    run(sys.executable, "-I", "-m", "pip", "wheel", *options, "--wheel-dir", work, sdist, cwd=work)
    return next(work.glob("*.whl"))


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin of a new environment that holds the wheel alone and borrows torch and the rest from this one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    borrowed = Path(pytest.__file__).resolve().parent.parent
    # a plain path: this environment's own .pth files do not run, but for the one that makes torchvision importable
    repair = "import oscar_x_torchvision_ops\n" if (borrowed / "oscar_x_torchvision_ops.py").exists() else ""
    (site / "borrowed.pth").write_text(f"{borrowed}\n{repair}")
    pip = (sys.executable, "-I", "-m", "pip", "--python", python, "install")
    run(*pip, "--no-deps", "--no-index", "--ignore-installed", "--quiet", wheel, cwd=folder)
    return folder / "bin"


def test_every_module_is_in_the_wheel(wheel: Path):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    wanted = {
        f"{package.replace('.', '/')}/{file}" for package, f in FOLDERS.items() for file in source_files(ROOT / f)
    }
    assert packed == wanted


def test_the_wheel_carries_texts_types_and_licence(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"oscar_x/py.typed", "oscar_x/assets/README.md", "oscar_x/assets/text/kjv.txt"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [
        name for name in names if name.split("/")[0] not in ("oscar_x", wheel.name.rsplit("-", 3)[0] + ".dist-info")
    ]


def test_it_imports_outside_the_checkout_from_the_wheel(fresh: Path, tmp_path: Path):
    home = run(fresh / "python", "-c", IMPORTS, cwd=tmp_path).split()[1]
    assert Path(home).is_relative_to(fresh.parent)


def test_it_imports_inside_the_checkout(fresh: Path):
    run(fresh / "python", "-c", IMPORTS, cwd=ROOT)


def test_a_script_run_inside_the_checkout_uses_the_wheel(fresh: Path, tmp_path: Path):
    (tmp_path / "script.py").write_text(IMPORTS)
    home = run(fresh / "python", tmp_path / "script.py", cwd=ROOT).split()[1]
    assert Path(home).is_relative_to(fresh.parent)


@pytest.mark.parametrize("inside", [True, False])
def test_the_program_runs_from_anywhere(fresh: Path, tmp_path: Path, inside: bool):
    assert "demo" in run(fresh / "oscar-x", "--help", cwd=ROOT if inside else tmp_path)


def test_transformers_is_not_taken_in_by_our_folder_names(fresh: Path):
    code = "from transformers.utils import is_kernels_available; print(is_kernels_available())"
    assert run(fresh / "python", "-c", code, cwd=ROOT).strip() == "False"


def test_the_root_is_not_on_the_path_of_the_tests():
    assert str(ROOT) not in {str(Path(entry).resolve()) for entry in sys.path if entry}
    assert "" not in sys.path


@pytest.fixture
def bootstrap() -> Callable[..., subprocess.CompletedProcess[str]]:
    def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "bootstrap.py"), *arguments]
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)

    return start


def test_bootstrap_explains_itself(bootstrap):
    result = bootstrap()
    assert result.returncode == 2
    assert result.stderr.startswith("bootstrap: usage: python3 bootstrap.py demo|test")


def test_bootstrap_says_when_the_environment_cannot_be_made(bootstrap, tmp_path: Path):
    (tmp_path / "file").write_text("")
    result = bootstrap("test", OSCAR_X_VENV=str(tmp_path / "file" / "venv"))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("bootstrap: no environment could be made")
    assert "Traceback" not in result.stderr


def test_bootstrap_says_when_no_registry_answers(bootstrap, tmp_path: Path):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    result = bootstrap("demo", OSCAR_X_VENV=str(tmp_path / "venv"), **nowhere)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("bootstrap: installation failed: pip could not reach")
    assert not list((tmp_path / "venv").glob(".oscar-x-*"))


TORCHVISION = {
    # registers a kernel for an operator of its compiled part, as the real one does
    "of another build": "import torch; torch.library.register_fake('torchvision::nms')(lambda *boxes: boxes[0])",
    "that fits": "",
    "that is broken": "raise ImportError('libbroken.so: cannot open')",
}


@pytest.fixture
def environment(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, Path]:
    """bootstrap.py as a module, for an environment with this torch and that torchvision; its site-packages."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    monkeypatch.setenv("OSCAR_X_VENV", str(tmp_path / "venv"))
    spec = spec_from_file_location("oscar_x_bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(tmp_path / "venv" / "bin" / "python", "-c", code, cwd=tmp_path).strip())
    (site / "borrowed.pth").write_text(f"{Path(pytest.__file__).resolve().parent.parent}\n")
    (site / "torchvision").mkdir()
    (site / "torchvision" / "__init__.py").write_text(TORCHVISION[request.param])
    return module, site


@pytest.mark.parametrize("environment", ["of another build"], indirect=True)
def test_bootstrap_lets_a_torchvision_of_another_build_be_imported(environment):
    module, site = environment
    assert "nms does not exist" in module.last_error("import torchvision")
    module.fit_torchvision()
    assert {path.name for path in site.glob("oscar_x_*")} == {
        "oscar_x_torchvision_ops.py",
        "oscar_x_torchvision_ops.pth",
    }
    assert module.last_error("import torchvision, transformers") is None
    assert module.last_error("import sys; sys.exit('torch' in sys.modules)") is None


@pytest.mark.parametrize("environment", ["that fits"], indirect=True)
def test_bootstrap_leaves_a_torchvision_that_fits(environment):
    module, site = environment
    module.fit_torchvision()
    assert not list(site.glob("oscar_x_*"))


@pytest.mark.parametrize("environment", ["that is broken"], indirect=True)
def test_bootstrap_says_when_torchvision_does_not_fit(environment):
    module, site = environment
    with pytest.raises(module.Failure, match=r"does not fit the installed torch: ImportError: libbroken\.so"):
        module.fit_torchvision()
    assert not list(site.glob("oscar_x_*"))
