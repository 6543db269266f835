# Sourced by `build` and `slot`: FAT file systems that are the same each time. In: SOURCE_DATE_EPOCH.
# shellcheck shell=bash

# fat FILE MIB VOLUME_ID FOLDER: a FAT file system with what is in the folder.
fat() {
  truncate -s "$2M" "$1"
  # Clusters of 1 KiB hold GRUB's environment whole: after a power cut a name leads to all of it.
  mkfs.vfat --invariant -F 32 -s 2 -i "$3" "$1" > /dev/null
  find "$4" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  (cd "$4" && find . -mindepth 1 -maxdepth 1 | LC_ALL=C sort | xargs -I{} mcopy -s -m -i "$1" {} ::)
}
