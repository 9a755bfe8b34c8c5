# What every script begins with. It runs in an empty folder of its own; SCALE is 1 for a short run
# and 10 for a whole one; whatever it prints must be the same with and without the library.
set -euo pipefail

# Fails unless the process $1 has the library in its memory, where there is to be one.
expect_loaded() {
    [ -z "${LD_PRELOAD:-}" ] || grep -qF "$LD_PRELOAD" "/proc/$1/maps" || {
        echo "process $1 runs without $LD_PRELOAD" >&2
        exit 1
    }
}

# Lines of words and numbers, always the same: $1 of them.
text() {
    awk -v lines="$1" 'BEGIN {
        seed = 1
        for (i = 0; i < lines; i++) {
            seed = (seed * 69069 + 1) % 4294967296
            printf "%d word%d the quick brown %x fox %s\n", i, seed % 997, seed,
                (seed % 11 == 0) ? "jumps jumps" : "sleeps"
        }
    }'
}

# The name of what is read, in few letters.
digest() {
    sha256sum | cut -c 1-16
}

expect_loaded $$
