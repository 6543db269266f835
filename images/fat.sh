# Sourced by `build`, `slot` and `pi/finish`: FAT file systems that are the same each time. In: SOURCE_DATE_EPOCH.
# shellcheck shell=bash

# fat FILE MIB VOLUME_ID FOLDER [MKFS'S OPTIONS]: a FAT file system with what is in the folder.
fat() {
  truncate -s "$2M" "$1"
  mkfs.vfat --invariant -i "$3" "${@:5}" "$1" > /dev/null
  find "$4" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  (cd "$4" && find . -mindepth 1 -maxdepth 1 | LC_ALL=C sort | xargs -I{} mcopy -s -m -i "$1" {} ::)
}

# fat_32: the same of a partition.
# Clusters of 1 KiB hold GRUB's environment whole: after a power cut a name leads to all of it.
fat_32() { fat "$@" -F 32 -s 2; }
