# Sourced by `lock` and `build`: Debian 13's package registry beside the machine's own apt, which it leaves alone.
#
# In:  the architecture. Out: `apt_get` and `apt_cache` for that architecture and release, with nothing installed yet.
# Must never name a mirror: it is the one that the machine's own apt uses for Debian.
# shellcheck shell=bash

# of_release ARCH: sets the two up; the lists of packages are fetched by `renew_lists`.
of_release() {
  local arch=$1 label mirror suites
  folder=$PWD/.cloister/images/apt-$arch
  mkdir -p "$folder/lists/partial" "$folder/archives/partial"
  : > "$folder/status"
  : > "$folder/sources.sources"
  for label in Debian Debian-Security; do
    # shellcheck disable=SC2016 # apt's own variable
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Label: $label" | sort -u | head -n 1)
    [ -n "$mirror" ] || fail "this machine's apt knows no mirror of $label; name one in its sources, and run apt-get update"
    case $label in Debian) suites='trixie trixie-updates trixie-backports' ;; *) suites=trixie-security ;; esac
    printf '%s\n' 'Types: deb' "URIs: $mirror" "Suites: $suites" 'Components: main non-free-firmware' \
      'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' '' >> "$folder/sources.sources"
  done
  of_this=(-o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o APT::Install-Recommends=false
    -o "Dir::Etc::SourceList=$folder/sources.sources" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
    -o "Dir::State=$folder" -o "Dir::State::status=$folder/status" -o "Dir::State::lists=$folder/lists"
    -o "Dir::Cache=$folder" -o "Dir::Cache::archives=$folder/archives" -o APT::Sandbox::User=root)
}

apt_get() { apt-get -q "${of_this[@]}" "$@"; }
apt_cache() { apt-cache -q "${of_this[@]}" "$@"; }
renew_lists() { apt_get update > "$folder/update.log" 2>&1 || { cat "$folder/update.log" >&2; fail "cannot read Debian 13's lists of packages"; }; }

# debs_of LOCK FOLDER: the packages of a lock file, each checked by its sha256, and nothing else.
debs_of() {
  local lock=$1 to=$2 cache=$PWD/.cloister/images/debs name version arch sha256 missing=()
  mkdir -p "$cache" "$to"
  while read -r name version arch sha256; do
    [ -f "$cache/$sha256.deb" ] || missing+=("$name:$arch=$version")
  done < "$lock"
  if [ ${#missing[@]} -gt 0 ]; then
    local new file
    renew_lists
    new=$(mktemp -d "$cache/new.XXXXXX")
    echo "Fetching ${#missing[@]} packages"
    (cd "$new" && apt_get download "${missing[@]}" > log 2>&1) \
      || { tail -n 3 "$new/log" >&2; rm -r "$new"; fail "the mirror no longer has what $lock wants; renew it with images/lock"; }
    for file in "$new"/*.deb; do mv "$file" "$cache/$(sha256sum "$file" | cut -d ' ' -f 1).deb"; done
    rm -r "$new"
  fi
  while read -r name version arch sha256; do
    [ -f "$cache/$sha256.deb" ] || fail "$name $version has other bytes than $lock says; renew it with images/lock, and ask why"
    ln -f "$cache/$sha256.deb" "$to/${name}_$arch.deb"
  done < "$lock"
}
