#!/usr/bin/env bash
# The action and the pre-commit hook as others use them: both install this checkout and look at an environment with nothing in it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

project=$work/project
mkdir "$project"
"$python" -m venv --without-pip "$project/.venv"
printf '[tool.envguard]\nbackends = ["gguf"]\n' > "$project/pyproject.toml"
cd "$project"
git init --quiet

# Each has to find that gguf is blocked, not merely to fail.
says() {
    local status=0
    "$@" > "$work/said.txt" 2>&1 || status=$?
    if [ "$status" -ne 1 ] || ! grep --quiet "gguf/installed" "$work/said.txt"; then
        cat "$work/said.txt"
        return 1
    fi
}

says python "$root/.ci/action.py" python=.venv
git add pyproject.toml
copy_tree "$work/hooks"
git -C "$work/hooks" init --quiet
git -C "$work/hooks" add --all
git -C "$work/hooks" -c user.name=ci -c user.email=ci@localhost commit --quiet --message hooks
export PRE_COMMIT_HOME=$work/pre-commit
says pre-commit try-repo "$work/hooks" envguard --all-files
