# Sourced by the scripts here, from the top of the repository: what they know of the workspace.

# Where rustup puts it; not every shell has it in its PATH.
command -v cargo >/dev/null || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH

# The suite's programs, as they are built and installed.
PROGRAMS=(pulse lvsd nanny fos send_arp piranhactl piranha_gui piranha-passwd lvs-check)

# The tests that need a kernel with IPVS, a line each: PACKAGE TARGET DIRECTORY. They are the [[test]]
# sections that say "test = false", so that a plain "cargo test" leaves them out.
kernel_tests() { marked_tests crates/*/Cargo.toml tests/Cargo.toml; }

# Those that need a browser, but no such kernel, likewise.
browser_tests() { marked_tests tests/gui/Cargo.toml; }

marked_tests() {
  awk '
    function flush() { if (target != "" && kernel) print package, target, directory; target = ""; kernel = 0 }
    FNR == 1 { flush(); section = ""; directory = FILENAME; sub("/Cargo.toml$", "", directory) }
    /^\[/ { flush(); section = $1 }
    { split($0, quoted, "\"") }
    section == "[package]" && $1 == "name" { package = quoted[2] }
    section == "[[test]]" && $1 == "name" { target = quoted[2] }
    section == "[[test]]" && /^test *= *false/ { kernel = 1 }
    END { flush() }' "$@"
}

target_directory() {
  cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# executable test|bench ARGS... : builds what "cargo test" or "cargo bench" with these arguments would
# run, and prints its path.
executable() {
  # One JSON object a line; cargo's plain output is for people, and changes.
  cargo "$@" --no-run --message-format=json |
    sed -n '/"reason":"compiler-artifact"/{/"kind":\["'"$1"'"\]/s/.*"executable":"\([^"]*\)".*/\1/p}' | tail -1
}
