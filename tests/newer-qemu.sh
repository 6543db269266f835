# Sourced by tests that need the qemu of Debian 13, which emulates more of a Raspberry Pi than that of 12; after images/apt.sh.
# shellcheck shell=bash disable=SC2034 # those who source it use what it sets

# newer_qemu FOLDER: fetches it into the folder, and sets `newer_qemu` to what starts it for ARM, with libraries of its own.
newer_qemu() {
  of_release "$(dpkg --print-architecture)"
  renew_lists
  apt_get install --yes --download-only qemu-system-arm > "$1/apt" 2>&1 || { cat "$1/apt" >&2; fail "no qemu"; }
  local deb libraries loader
  for deb in "${folder:?}"/archives/*.deb; do dpkg-deb -x "$deb" "$1/host"; done
  libraries=$(echo "$1"/host/usr/lib/*-linux-gnu)
  loader=("$1"/host/usr/lib*/ld-linux*)
  newer_qemu=("${loader[0]}" --library-path "$libraries:$libraries/pulseaudio" "$1/host/usr/bin/qemu-system-aarch64" -L "$1/host/usr/share/qemu")
}
