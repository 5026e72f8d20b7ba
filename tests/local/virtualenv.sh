#!/usr/bin/env bash
# Creates a virtual environment with packages pinned by hash, or prints a one-line error.
#
#   virtualenv.sh FOLDER [--editable PROJECT] REQUIREMENTS-FILE...
#
# PYTHON is the interpreter; by default, the first one found that is 3.11 or newer.
set -euo pipefail

folder=$1
shift
project=
if [[ $1 == --editable ]]; then
  project=$2
  shift 2
fi

fail() {
  echo "error: $*" >&2
  exit 1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
  if new_enough "$candidate"; then
    python=$candidate
    break
  fi
done
[[ -n $python ]] || fail "Python 3.11 or newer is needed, not found as ${PYTHON:-python3}; on Debian or Ubuntu: apt-get install python3 python3-venv"

# Debian packages venv and ensurepip apart from Python.
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
  fail "$python cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv"

echo "Setting up $folder (once) ..."
rm -rf "$folder"
mkdir -p "$folder"
log=$folder/install.log
pip() { "$folder/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
{
  "$python" -m venv "$folder" &&
    # The files name every package, so pip need not resolve; with extras, it would not find their hashes.
    pip install --no-deps --only-binary=:all: --require-hashes ${@/#/--requirement } &&
    # An editable project has no hash. Without isolation, the pinned backend builds it.
    { [[ -z $project ]] || pip install --no-deps --no-build-isolation --editable "$project"; } &&
    pip check
} >"$log" 2>&1 || fail "setting up $folder failed: $(grep -E '^(ERROR|Error)' "$log" | head -n 1 || tail -n 1 "$log") (all of it: $log)"
touch "$folder/ready"
