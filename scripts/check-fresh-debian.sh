#!/usr/bin/env bash
# shellcheck disable=SC2317  # functions called through `timed`
# Proves the README's two commands on an empty Debian: makes a minimal root with debootstrap, copies the
# files git knows (and new ones it does not ignore) into it, runs ./scripts/demo.sh and ./scripts/test.sh
# there as root, and prints how long each took. Needs root and, on the first run, the network.
#   usage: scripts/check-fresh-debian.sh [bookworm|trixie] [--keep] [--only demo|test|install|shell]
#   --keep     leave the root in place and say where it is
#   --root DIR use (and keep) the root in DIR; it is made when it is not there
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
suite=bookworm
keep=0
root=""
steps=(demo test)

die() { echo "check-fresh-debian: $*" >&2; exit 2; }
say() { echo "== $*"; }

while (($#)); do
  case "$1" in
    bookworm | trixie) suite=$1 ;;
    --keep) keep=1 ;;
    --root) shift; root=${1:?--root needs a folder}; keep=1 ;;
    --only) shift; steps=("${1:?--only needs demo, test, install or shell}") ;;
    -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown argument '$1'; expected bookworm, trixie, --keep, --root DIR or --only STEP" ;;
  esac
  shift
done
[ "$(id -u)" -eq 0 ] || die "chroot and mount need root; run it with sudo"
[ -n "$root" ] || root=$(mktemp -d "${TMPDIR:-/tmp}/stoat-$suite.XXXXXX")

# Never removes anything while something of ours is still mounted inside.
clean_up() {
  local status=$?
  for mounted in dev/pts dev/shm dev proc; do
    if mountpoint -q "$root/$mounted"; then umount "$root/$mounted" || umount -l "$root/$mounted"; fi
  done
  if ((keep)); then
    echo "check-fresh-debian: the root is left in $root"
  elif ! grep -q " $root/" /proc/mounts; then
    rm -rf --one-file-system "$root"
  fi
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

timed() {  # timed NAME COMMAND...: runs it, remembers the seconds and the outcome
  local name=$1 start=$SECONDS status=0
  shift
  say "$name"
  "$@" || status=$?
  summary+=("$(printf '%-40s %5d s   %s' "$name" $((SECONDS - start)) "$([ $status -eq 0 ] && echo passed || echo "FAILED ($status)")")")
  return $status
}
summary=()

# The mirror this machine already uses, so that nothing about it is written here; empty: debootstrap's own.
host_mirror() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -nE 's/^(URIs:|deb( \[[^]]*\])?) *([^ ]+\/debian)\/?( .*)?$/\3/p' | head -n 1
}

make_root() {
  command -v debootstrap >/dev/null || apt-get -qq install --yes --no-install-recommends debootstrap </dev/null
  local mirror
  mirror=$(host_mirror)
  debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; die "debootstrap failed"; }
  rm -f "$root.log"
  # How this machine reaches packages: name service, proxies, certificates.
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  local file
  for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
    if [ -f "$file" ] && grep -q -E '^ *Acquire' "$file"; then cp "$file" "$root/etc/apt/apt.conf.d/"; fi
  done
  if [ -d /usr/local/share/ca-certificates ]; then
    mkdir -p "$root/usr/local/share" && cp -r /usr/local/share/ca-certificates "$root/usr/local/share/"
  fi
}

copy_tree() {
  rm -rf "$root/root/stoat" && mkdir -p "$root/root/stoat"
  git -C "$repository" -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
    (cd "$repository" && xargs -0 -r ls -d 2>/dev/null | tar --create --files-from=- --file=-) |
    tar --extract --directory="$root/root/stoat" --file=-
  if [ -d "$repository/.git" ]; then cp -r "$repository/.git" "$root/root/stoat/"; fi
  chown -R 0:0 "$root/root/stoat"
}

inside() {  # inside COMMAND: in the repository's copy, with a bare environment and no stdin
  local proxies=() name
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [ -z "${!name:-}" ] || proxies+=("$name=${!name}")
  done
  chroot "$root" /usr/bin/env -i HOME=/root USER=root TERM="${TERM:-dumb}" LANG=C.UTF-8 "${proxies[@]}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /bin/bash -c "cd /root/stoat && $1"
}

[ -x "$root/usr/bin/apt-get" ] || timed "make an empty $suite root" make_root
copy_tree
mkdir -p "$root/proc" "$root/dev"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount --make-private "$root/dev"  # or the mounts below would show on the host
if [ -d /dev/pts ]; then mount --bind /dev/pts "$root/dev/pts"; fi
mkdir -p "$root/dev/shm"
mountpoint -q "$root/dev/shm" || mount -t tmpfs tmpfs "$root/dev/shm"

status=0
for step in "${steps[@]}"; do
  case "$step" in
    install) timed "./scripts/install-deps.sh" inside "./scripts/install-deps.sh </dev/null" || status=1 ;;
    demo)
      timed "./scripts/demo.sh" inside "./scripts/demo.sh </dev/null 2>&1 | tee /root/demo.log; exit \${PIPESTATUS[0]}" || status=1
      ready=$(sed -nE 's/^== ready after ([0-9]+) s.*/\1/p' "$root/root/demo.log")
      summary+=("  of which installing and building        $(printf '%5d' "${ready:-0}") s   at most 360 on 2 cores")
      if [ "${ready:-999}" -gt 360 ]; then summary+=("  TOO SLOW"); status=1; fi
      ;;
    test) timed "./scripts/test.sh" inside "CI=true ./scripts/test.sh </dev/null" || status=1 ;;
    shell) inside "exec bash -i" || status=1 ;;
    *) die "unknown step '$step'; expected demo, test, install or shell" ;;
  esac
done
say "an empty $suite, $(nproc) cores: size of the root $(du -sh --one-file-system "$root" 2>/dev/null | cut -f1)"
printf '%s\n' "${summary[@]}"
exit $status
