#!/usr/bin/env bash
# Builds what the bridge is compared with into the cache, once: rathole and bore from crates.io, toxiproxy from its Go
# module, and an environment that holds what the forwarder's image holds. openssh-server, socat and stunnel4 are Debian's.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/edge-tunnels-bench
mkdir -p "$cache"
for program in sshd socat stunnel; do
    command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] ||
        { echo "$program is missing: apt-get install openssh-server socat stunnel4" >&2; exit 1; }
done
if [ ! -x "$cache/bin/toxiproxy" ]; then
    GOBIN=$cache/bin go install github.com/Shopify/toxiproxy/v2/cmd/server@latest
    mv "$cache/bin/server" "$cache/bin/toxiproxy"
fi
# rathole's lock file is too old for today's compilers: built without.
[ -x "$cache/bin/bore" ] || cargo install --quiet bore-cli --root "$cache" --target-dir "$cache/target"
[ -x "$cache/bin/rathole" ] || cargo install --quiet rathole --root "$cache" --target-dir "$cache/target"
if ! cmp --silent requirements/forwarder.txt "$cache/forwarder.txt"; then
    rm -rf "$cache/venv"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/forwarder.txt
    cp requirements/forwarder.txt "$cache/forwarder.txt"
fi
