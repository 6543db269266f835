# Sourced by `run` and `tests/run`: Debian's packages and a Rust that is new enough.
#
# In: the names of packages; `rust-version` in Cargo.toml of the current folder. Out: what was missing is
# there, and PATH leads to it. Must never touch the network when nothing is missing.
# shellcheck shell=bash

# install PACKAGE...: those of Debian's packages that are missing.
install() {
  local package missing=() as_root=()
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get > /dev/null || fail "this is no Debian; install what these packages hold: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || fail "neither root nor sudo; let root run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  echo "Installing ${missing[*]}"
  "${as_root[@]}" apt-get update -q || fail "apt-get update failed; is Debian's package registry reachable?"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" \
    || fail "apt-get could not install: ${missing[*]}"
}

# Whether the cargo and the rustc that the path leads to are new enough.
rust_is_new_enough() {
  local tool version needed
  needed=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
  for tool in cargo rustc; do
    version=$("$tool" --version 2> /dev/null | cut -d' ' -f2) || return 1
    [ "$(printf '%s\n' "$needed" "$version" | sort -V | head -n 1)" = "$needed" ] || return 1
  done
}

# What the build and the services need.
set_up() {
  install ca-certificates cmake curl g++ git libc6-dev libclang-dev make mosquitto mosquitto-clients pkg-config \
    python3 python3-pip
  rust_is_new_enough && return
  # A cargo that was installed by hand may not be on the path of a non-login shell.
  PATH=$HOME/.cargo/bin:$PATH
  rust_is_new_enough && return
  # Debian keeps a current Rust for its browsers, in packages whose names end in -web.
  install cargo-web rustc-web
  PATH=/usr/bin:$PATH
  rust_is_new_enough \
    || fail "the Rust here is older than Cargo.toml wants; Debian 12 has a newer one in bookworm-security: add that source"
}
