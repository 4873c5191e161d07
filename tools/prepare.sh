# Shared by ./demo and ./check, which source it from the project's folder: what must be there before Pantau can run.
# Every failure ends in one sentence that says what to do, and exit code 1.

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # Debian keeps servers such as mosquitto there
PYTHON="${PYTHON:-python3}"
HERE="$(pwd -P)"
trap 'echo; echo "Stopped. Run $0 again to go on from here."; exit 130' INT

say() { printf '%s\n' "$*"; }

fail() {
    printf '\n%s: %s\n' "$0" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install_debian REASON PACKAGE...: install Debian's packages, as root or through sudo.
install_debian() {
    local reason="$1" log
    shift
    command -v apt-get >/dev/null ||
        fail "$reason: install $* with this system's package manager, then run $0 again (there is no apt-get here)."
    say "Installing Debian's $* ($reason)"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            fail "$reason: installing takes root, and there is no sudo here. Let an administrator run 'apt-get install $*', then run $0 again."
        if ! sudo -n true 2>/dev/null; then
            { [ -t 0 ] && sudo -v; } ||
                fail "$reason: sudo refused. Let an administrator run 'apt-get install $*', then run $0 again."
        fi
    fi
    log="$(mktemp)"
    # A list that cannot be renewed is no reason to stop: the install itself tells whether it is needed.
    as_root apt-get update -q >"$log" 2>&1 || true
    if ! as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@" >>"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        fail "apt-get could not install $* (its words are above). Check the network, then run $0 again."
    fi
    rm -f "$log"
}

# Make sure that $PYTHON is Python 3.11 or newer and can make virtual environments.
need_python() {
    if ! command -v "$PYTHON" >/dev/null; then
        [ "$PYTHON" = python3 ] || fail "PYTHON=$PYTHON is not a program that can be run here."
        install_debian "Python 3.11 or newer is missing" python3 python3-venv
    fi
    local version
    version="$("$PYTHON" -c 'import platform; print(platform.python_version())')" ||
        fail "$PYTHON does not run (its words are above)."
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed, but $(command -v "$PYTHON") is $version. Name another one: PYTHON=/path/to/python3.11 $0"
    # Debian's python3 has the venv module but not the ensurepip that it needs; python3-venv brings it.
    if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        install_debian "Python's venv module is missing" python3-venv
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$(command -v "$PYTHON") still has no venv module, since it is not Debian's. Name another one: PYTHON=/usr/bin/python3 $0"
    fi
}

# fingerprint LOCK: what .venv depends on; empty when .venv cannot be used at all.
fingerprint() {
    cat "$1" pyproject.toml | .venv/bin/python -c '
import hashlib, sys
print(sys.argv[1], sys.version.split()[0], hashlib.sha256(sys.stdin.buffer.read()).hexdigest())' "$HERE" 2>/dev/null || true
}

# need_environment LOCK: make .venv hold the locked packages and this project. Quick when it does already.
need_environment() {
    local lock="$1" want
    want="$(fingerprint "$lock")"
    if [ -n "$want" ] && [ "$(cat ".venv/installed-$lock" 2>/dev/null)" = "$want" ]; then
        return
    fi
    [ -w . ] || fail "$HERE cannot be written to, and .venv must be made in it. Clone Pantau into a folder of your own."
    [ ! -e .venv ] || [ -w .venv ] ||
        fail "$HERE/.venv cannot be written to by $(id -un). Remove it (sudo rm -r .venv), then run $0 again."
    # An environment whose Python is gone, or that was moved here from another folder, is made anew.
    if ! { .venv/bin/python -m pip --version && grep -qF "$HERE/.venv/bin/" .venv/bin/pip; } >/dev/null 2>&1; then
        say "Making .venv with Python $("$PYTHON" -c 'import platform; print(platform.python_version())')"
        "$PYTHON" -m venv --clear .venv || fail "Python could not make $HERE/.venv (its words are above)."
    fi
    local pip=(.venv/bin/python -m pip install --no-input --disable-pip-version-check)
    local log=.venv/install.log
    say "Installing $(grep -c '^[A-Za-z0-9].*==' "$lock") packages from $lock (the first time takes a minute or two)"
    if ! "${pip[@]}" --progress-bar off --only-binary :all: --require-hashes -r "$lock" 2>&1 |
        tee "$log" | show_progress "$lock"; then
        grep -vE '^ *(Collecting|Downloading|Using cached|Requirement already satisfied)' "$log" >&2
        if grep -qE 'NewConnectionError|ConnectTimeout|NameResolutionError|ProxyError|SSLError|timed out|from versions: none' "$log"; then
            fail "The package index could not be reached (pip's words are above). Check the network, then run $0 again."
        fi
        fail "pip could not install $lock (its words are above; all of them are in $HERE/$log)."
    fi
    say "Installing Pantau itself"
    "${pip[@]}" --no-index --no-deps --no-build-isolation -e . >"$log" 2>&1 || {
        cat "$log" >&2
        fail "pip could not install Pantau itself (its words are above)."
    }
    fingerprint "$lock" >".venv/installed-$lock"
    # The development lock holds all of requirements.lock at the same versions (tests/workshop/test_locks.py).
    fingerprint requirements.lock >.venv/installed-requirements.lock
}

# show_progress LOCK: reads pip's output; a counter in place on a terminal, else a line for every tenth package.
show_progress() {
    local n=0 line name total
    total="$(grep -c '^[A-Za-z0-9].*==' "$1")"
    while IFS= read -r line; do
        case "$line" in
        "Collecting "* | "Requirement already satisfied: "*)
            n=$((n + 1))
            name="${line#Collecting }"
            name="${name#Requirement already satisfied: }"
            name="${name%% *}"
            if [ -t 1 ]; then
                printf '\r\033[K  %d of %d: %s' "$n" "$total" "$name"
            elif [ $((n % 10)) = 0 ]; then
                say "  $n of $total: $name"
            fi
            ;;
        "Installing collected packages"*)
            [ ! -t 1 ] || printf '\r\033[K'
            say "  $n of $total are here; putting them in place"
            ;;
        esac
    done
    [ ! -t 1 ] || printf '\r\033[K'
}
