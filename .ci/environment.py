"""Create one of this project's virtual environments, or leave it alone if it is what it should be.

    python3 .ci/environment.py .venv .ci/constraints-airflow3.txt dev

The environment holds the checkout (editable, with its [testing] extra) and dependency groups of pyproject.toml, in the
versions of the constraints file. A stamp in the environment remembers what it was made from; while that has not
changed, and it holds all groups that are asked for, this script returns at once. A further group is added to what is
there. A half-made environment has no stamp and is made again.

Needs nothing but Python's standard library, and runs on old Pythons far enough to say that they are too old.
"""

import glob
import hashlib
import os
import subprocess
import sys
import time

OLDEST_PYTHON = (3, 11)
STAMP = "dataflux-environment"
REPORT_EVERY_S = 10


def main(arguments):
    """Make the environment that the command line names."""
    if sys.version_info < OLDEST_PYTHON:
        fail(
            "Python {}.{} or newer is needed, but {} is {}.".format(
                *OLDEST_PYTHON, sys.executable, sys.version.split()[0]
            ),
            "Install a newer one and name it: make {} PYTHON=python3.12".format(os.environ.get("GOAL", "demo")),
        )
    directory, constraints, *groups = arguments
    python = os.path.join(directory, "bin", "python")
    stamp_file = os.path.join(directory, STAMP)
    wanted = stamp(constraints)
    found, *held = read(stamp_file).split() or [""]
    if found == wanted and set(groups) <= set(held) and subprocess.run([python, "-c", ""], check=False).returncode == 0:
        return
    groups = sorted({*groups, *(held if found == wanted else ())})  # what changed may have lost a group
    began = time.monotonic()
    if not os.path.exists(stamp_file):
        say("Creating {} with {} (Python {})".format(directory, sys.executable, sys.version.split()[0]))
        if subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=False).returncode:
            fail("Python's venv module does not work here.", "On Debian and Ubuntu: apt-get install python3-venv")
    else:
        say("Updating {}: more is asked of it, or what it is made from has changed".format(directory))
        os.remove(stamp_file)
    say("Installing the packages of {} (log: {}/install.log)".format(constraints, directory))
    run_pip(directory, ["pip"], constraints)
    chosen = [word for group in groups for word in ("--group", group)]
    run_pip(directory, ["--build-constraint", constraints, *chosen, "--editable", ".[testing]"], constraints)
    with open(stamp_file, "w") as file:
        file.write("\n".join([wanted, *groups]) + "\n")
    say("{} is ready after {:.0f} s".format(directory, time.monotonic() - began))


def stamp(constraints):
    """Return what identifies an environment, besides its groups: its inputs, its Python and its place."""
    inputs = [read(constraints), read("pyproject.toml"), sys.version, os.getcwd()]
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()


def run_pip(directory, arguments, constraints):
    """Run pip in the environment with its output in a log file, and say every few seconds how far it is."""
    command = [os.path.join(directory, "bin", "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    # Python compiles what is imported when it is; of these packages that is a small part. It must be allowed to keep
    # that: the Makefile drops PYTHONDONTWRITEBYTECODE, with which each process would compile all of Airflow anew.
    command += ["--no-compile"]
    command += ["--no-input", "--constraint", constraints, *arguments]
    log = os.path.join(directory, "install.log")
    expected = sum("==" in line for line in read(constraints).splitlines())
    began = time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        while True:
            try:
                status = process.wait(REPORT_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                say("  {:.0f} s: {}".format(time.monotonic() - began, progress(directory, expected)))
            except BaseException:
                process.terminate()
                process.wait()
                raise
    if status:
        # pip's warnings are many and never the reason.
        lines = [line for line in read(log).splitlines() if not line.startswith("WARNING")]
        sys.stderr.write("".join(line + "\n" for line in lines[-15:]))
        fail(
            "`{}` ended with {}.".format(" ".join(command), status),
            "See {}. If it is the network or the package index, run the same command again.".format(log),
        )


def progress(directory, expected):
    """Say how far pip is: it downloads everything first, and unpacks then."""
    found = glob.glob(os.path.join(directory, "lib", "python*", "site-packages", "*.dist-info"))
    # A new environment holds pip and at most setuptools.
    return "unpacked {} of about {} packages".format(len(found), expected) if len(found) > 2 else "collecting packages"


def read(path):
    """Return a file's text, nothing if there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def say(text):
    """Print one line at once."""
    print(text, flush=True)


def fail(what, next_step):
    """End with what happened and what to do."""
    sys.exit("\n{}\n{}".format(what, next_step))


if __name__ == "__main__":
    main(sys.argv[1:])
