# Sourced by `lock`, `build` and `boot`: the machines that images are made for.
#
# Out: `targets`, and of the one that `choose` was given: what it is, and its architecture.
# shellcheck shell=bash disable=SC2034 # those who source it use them

targets=(amd64 arm64 pi)

# choose TARGET: false for one that is not there.
choose() {
  target=$1
  case $target in
    amd64) arch=amd64 what='PCs with AVX2 and UEFI' ;;
    arm64) arch=arm64 what='ARM boards with UEFI: Jetson Orin, SBSA, qemu' ;;
    pi) arch=arm64 what='Raspberry Pi 4 and 5' ;;
    *) return 1 ;;
  esac
}
