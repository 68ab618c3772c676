#!/bin/sh
# Makes the project's virtual environment `.venv` from the lock files: `environment.sh run` with what perdure itself
# needs, `environment.sh dev` with all that its tests, checks and docs need; `environment.sh bench` makes `.venv-bench`,
# with perdure and its rivals. PYTHON=… in the environment chooses the interpreter, GC3PIE_PYTHON=… that of gc3pie. What
# `make` calls; the stamp files in `.venv` and `.venv-bench` are its proof that a step was finished.
set -eu
cd "$(dirname "$0")/.."
unset PYTHONPATH PYTHONHOME

say() { printf '%s\n' "$*" >&2; }

# Fewer words than pip's own, but every error; the tree itself is installed as it stands, with the pinned build tool.
place=.venv
install() { "$place/bin/python" -m pip install -qq --no-input --disable-pip-version-check "$@"; }

works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
makes_environments() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }

choose_python() {
    incomplete=
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        works "$candidate" || continue
        if makes_environments "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
        incomplete=$candidate
    done
    if [ -n "$incomplete" ]; then
        say "$incomplete cannot make a virtual environment: its module ensurepip is missing." \
            "On Debian and Ubuntu, install it with: apt-get install python3-venv"
    else
        say "perdure needs Python 3.11 or newer; ${PYTHON:-python3, python3.13, python3.12, python3.11}: none found." \
            "If it is somewhere else, say where: make PYTHON=/path/to/python …"
    fi
    return 1
}

make_environment() {
    python=$(choose_python)
    say "Making $place with $("$python" --version) …"
    "$python" -m venv --clear "$place"
    install -r requirements/run.txt -r requirements/build.txt
    install --no-deps --no-build-isolation --editable .
}

# What cannot be installed here is told, and the rest is measured.
install_rivals() {
    say "Installing what is measured beside perdure into $place …"
    install -r requirements/bench.txt && return
    grep -v '^#' requirements/bench.txt | while read -r pin; do
        install --no-deps "$pin" || say "$pin cannot be installed here; the benchmarks will say so."
    done
}

# gc3pie needs Python 3.9 or older, and packages of its time: an environment within the other.
install_gc3pie() {
    python=$(command -v "${GC3PIE_PYTHON:-python3.9}") && "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 &&
        "$python" -m venv "$place/gc3pie" &&
        "$place/gc3pie/bin/python" -m pip install -qq --no-input --disable-pip-version-check gc3pie==2.6.8 2>/dev/null ||
        say "gc3pie cannot be installed here (it needs Python 3.9: GC3PIE_PYTHON=…); the benchmarks will say so."
}

case $1 in
run)
    make_environment
    ;;
bench)
    place=.venv-bench
    make_environment
    install_rivals
    install_gc3pie
    ;;
dev)
    say "Installing the tools of requirements/dev.txt into .venv …"
    install -r requirements/dev.txt
    ;;
*)
    say "usage: environment.sh run|dev|bench"
    exit 2
    ;;
esac
touch "$place/$1.stamp"
