#!/usr/bin/env bash
# Lets a Debian or Ubuntu machine build for Windows and run the result under Wine:
#
#     eval "$(ci/windows-on-linux.sh [DIR])"
#     cargo test --all-features --target x86_64-pc-windows-gnu
#     wineserver -k                      # Wine's server outlives the tests for a while
#
# DIR (default: pipetalk/windows in the user's cache directory) keeps everything that is not a package of the
# system, so that a second run only prints the variables.
set -euo pipefail

# Standard output is for the caller's `eval` alone.
exec 3>&1 1>&2 </dev/null

target=x86_64-pc-windows-gnu
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/pipetalk/windows}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { echo "windows-on-linux: $*"; }
die() {
    say "$*"
    exit 1
}

# Keeps a long command's output in DIR/NAME.log; what a failure means, the caller says. Whatever the command leaves
# running must not hold on to the pipe that the `eval` reads.
logged() { # NAME COMMAND...
    "${@:2}" >"$dir/$1.log" 2>&1 3>&-
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

ensure_packages() {
    local name missing=()
    for name in x86_64-w64-mingw32-gcc wine wineserver xz; do
        command -v "$name" >/dev/null || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing packages for: ${missing[*]}"
    # One unreachable third-party source makes `update` fail; whether that matters shows at `install`.
    logged apt-update as_root apt-get update || say "apt-get update failed, trying all the same"
    logged apt-install as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        gcc-mingw-w64-x86-64 wine wine64 xz-utils \
        || { tail -n 20 "$dir/apt-install.log"; die "the packages could not be installed"; }
}

version=$(rustc --version | cut -d ' ' -f 2)
sysroot=$dir/sysroot-$version
library=$dir/rust-src-$version/library

ensure_std() {
    [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] || return 0
    [ ! -d "$sysroot" ] || return 0
    say "adding the target $target"
    logged rustup timeout 180 rustup target add "$target" || {
        tail -n 3 "$dir/rustup.log"
        say "that failed; building the standard library from Debian's package of its source instead"
        fetch_library
        build_sysroot
    }
}

# The compiler accepts only a library of its own version, which the Debian release at hand rarely has: look through
# the newer ones, with package lists apart from the system's.
fetch_library() {
    local mirror suite package
    mirror=$(apt-cache policy | grep -oE 'https?://[^ ]+/debian/? ' | head -n 1 | tr -d ' ' || true)
    [ -n "$mirror" ] || die "this machine has no Debian package source"
    for suite in trixie trixie-backports forky sid; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done >"$scratch/sources.list"
    mkdir -p "$scratch/lists/partial" "$scratch/package"
    local apt=(-o "Dir::Etc::SourceList=$scratch/sources.list" -o Dir::Etc::SourceParts=-
        -o "Dir::State::Lists=$scratch/lists" -o APT::Sandbox::User="$(id -un)")
    logged apt-source apt-get "${apt[@]}" update || say "apt-get update failed, trying all the same"
    package=$(apt-cache "${apt[@]}" madison rust-src | awk -v want="$version+" 'index($3, want) == 1 { print $3 }' | tail -n 1)
    [ -n "$package" ] || die "Debian has no rust-src of version $version"
    (cd "$scratch" && logged apt-source apt-get "${apt[@]}" download "rust-src=$package") \
        || { tail -n 20 "$dir/apt-source.log"; die "rust-src $package could not be downloaded"; }
    dpkg-deb --extract "$scratch"/rust-src_*.deb "$scratch/package"
    rm -rf "${library%/library}"
    mv "$scratch/package/usr/src/rustc-$version" "${library%/library}"
}

# Cargo builds a standard library only along with some crate: an empty one will do.
build_sysroot() {
    local crate=$scratch/empty lib=$scratch/sysroot/lib/rustlib/$target/lib
    mkdir -p "$crate/src" "$lib"
    : >"$crate/src/lib.rs"
    cat >"$crate/Cargo.toml" <<-'MANIFEST'
		[workspace]
		[package]
		name = "empty"
		edition = "2021"
	MANIFEST
    # The caller's flags are for the caller's crate, and may name the very sysroot that is to be made.
    logged build-std env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS \
        RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT="$library" \
        cargo build --release --target "$target" -Zbuild-std=std,panic_unwind,proc_macro,test \
        --manifest-path "$crate/Cargo.toml" --target-dir "$scratch/target" \
        || { tail -n 20 "$dir/build-std.log"; die "the standard library could not be built"; }
    find "$scratch/target/$target/release/deps" -name '*.rlib' ! -name 'libempty-*' -exec cp -t "$lib" {} +
    mv "$scratch/sysroot" "$sysroot"
}

# Wine would add its file types to the menus of the user's desktop.
overrides=winemenubuilder.exe=d

# A prefix belongs to one version of Wine, and is of use only once it is complete: the last step marks it.
ensure_prefix() {
    prefix=$dir/prefix-$(wine --version 2>/dev/null | cut -d ' ' -f 1)
    [ ! -e "$prefix/complete" ] || return 0
    say "making a Wine prefix"
    rm -rf "$prefix"
    # No .NET and no browser: Wine would offer to download them.
    logged wineboot env WINEPREFIX="$prefix" WINEDEBUG=-all WINEDLLOVERRIDES="$overrides;mscoree,mshtml=" \
        timeout 300 wine wineboot -i \
        || { tail -n 20 "$dir/wineboot.log"; die "the Wine prefix could not be made"; }
    # The registry is on disk only when the server has ended, which it does by itself once it is idle.
    WINEPREFIX=$prefix timeout 60 wineserver -w || WINEPREFIX=$prefix wineserver -k || true
    ensure_prng "$prefix/drive_c/windows/system32/bcryptprimitives.dll"
    touch "$prefix/complete"
}

# Rust's standard library takes its random numbers from a library that Wine has had only since 8.13.
ensure_prng() { # FILE
    [ ! -e "$1" ] || return 0
    cat >"$scratch/prng.c" <<-'SOURCE'
		#include <windows.h>
		#include <ntsecapi.h>

		__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
		{
		    return RtlGenRandom(data, (ULONG)length);
		}
	SOURCE
    logged prng x86_64-w64-mingw32-gcc -shared -O2 -o "$1" "$scratch/prng.c" -ladvapi32 \
        || { cat "$dir/prng.log"; die "the random number library could not be built"; }
}

ensure_packages
ensure_std
ensure_prefix

{
    printf 'export WINEPREFIX=%q\n' "$prefix"
    echo "export WINEDEBUG=-all WINEDLLOVERRIDES=$overrides"
    echo "export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=wine"
    if [ -d "$sysroot" ]; then
        printf 'export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS=%q\n' "--sysroot=$sysroot"
        # Cargo gives the flags above to rustc alone: set RUSTDOCFLAGS to these for doc tests and documentation.
        printf 'export WINDOWS_RUSTDOCFLAGS=%q\n' "--sysroot=$sysroot"
    fi
    if [ -d "$library" ]; then
        # For `cargo check -Zbuild-std` of targets that cannot be linked here either.
        printf 'export RUST_LIBRARY_SRC=%q\n' "$library"
    fi
} >&3
