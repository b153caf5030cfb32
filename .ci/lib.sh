# Sourced by the scripts beside it: strict shell, a temporary folder, and the words they share.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case $(uname -s) in
    MINGW* | MSYS* | CYGWIN*) python=python bin=Scripts ;;
    *) python=python3 bin=bin ;;
esac

# The same on a developer's machine as in CI.
export CI=true PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 PYTHONUTF8=1

# Python, not mktemp: its answer is a path that programs of Windows understand too.
work=$("$python" -c 'import tempfile; print(tempfile.mkdtemp(prefix="envguard-ci-").replace(chr(92), "/"))')
trap 'rm -rf "$work"' EXIT

say() {
    printf '\n== %s\n' "$*"
}

# What is tracked, or would be if it were added, goes to a folder of its own: nothing left over in the checkout helps.
copy_tree() {
    "$python" "$root/.ci/copy_tree.py" "$@"
}

# Run one command of the README as it stands there, in a fresh copy of the project.
readme_command() {
    local name=$1 folder=$work/$1 command
    copy_tree "$folder"
    command=$("$python" "$root/.ci/readme.py" "$name")
    if [ "$bin" = Scripts ]; then
        command=${command//.venv\/bin\//.venv\/Scripts\/}
        command=${command//python3 /python }
    fi
    say "README, $name: $command"
    (cd "$folder" && bash -euo pipefail -c "$command")
}

# The backends for which a test fails instead of skipping, as --envguard-required takes them.
required=${ENVGUARD_REQUIRED:-}

# Options for every run of pytest below this script; the command itself stays as the README has it.
pytest_reports_to() {
    export PYTEST_ADDOPTS="--junitxml=$1 -p no:cacheprovider${2:+ $2}${required:+ --envguard-required=$required}"
}
