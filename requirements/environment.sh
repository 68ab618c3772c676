#!/bin/sh
# Makes the project's virtual environment `.venv` from the lock files: `environment.sh run` with what perdure itself
# needs, `environment.sh dev` with all that its tests, checks and docs need. PYTHON=… in the environment chooses the
# interpreter. What `make` calls; the stamp files in `.venv` are its proof that a step was finished.
set -eu
cd "$(dirname "$0")/.."
unset PYTHONPATH PYTHONHOME

say() { printf '%s\n' "$*" >&2; }

# Fewer words than pip's own, but every error; the tree itself is installed as it stands, with the pinned build tool.
install() { .venv/bin/python -m pip install -qq --no-input --disable-pip-version-check "$@"; }

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

case $1 in
run)
    python=$(choose_python)
    say "Making .venv with $("$python" --version) …"
    "$python" -m venv --clear .venv
    install -r requirements/run.txt -r requirements/build.txt
    install --no-deps --no-build-isolation --editable .
    ;;
dev)
    say "Installing the tools of requirements/dev.txt into .venv …"
    install -r requirements/dev.txt
    ;;
*)
    say "usage: environment.sh run|dev"
    exit 2
    ;;
esac
touch ".venv/$1.stamp"
