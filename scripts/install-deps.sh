#!/usr/bin/env bash
# Installs the packages stoat is built from, with apt only, and only those that are missing.
# Known to work on Debian 12 and 13; Ubuntu 24.04 has the same names. Needs root or sudo.
#   --dry-run   print what would be installed, install nothing
#   --dev       also clang-format, clang-tidy, shellcheck, ccache, matplotlib (contributors, figures)
#   --slurm     also a Slurm for one machine (scripts/test-cluster.sh)
set -euo pipefail

packages=(
  build-essential cmake ninja-build pkg-config git ca-certificates
  libsystemc-dev                        # simulation kernel: 2.3.4 in Debian 12, 3.0.1 in 13
  libeigen3-dev libboost-dev            # linear algebra, utilities
  libgtest-dev libgmock-dev libbenchmark-dev
  libfccp-dev libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libfmt-dev libspdlog-dev
  libhdf5-dev libaec-dev zlib1g-dev     # trace at rest (libaec-dev holds libsz.a)
  libzstd-dev libdeflate-dev libxxhash-dev
  libsqlite3-dev libpcre2-dev
  python3 python3-plotly                # plotly.js of the report
)
dev_packages=(clang-format clang-tidy shellcheck ccache python3-matplotlib)
slurm_packages=(slurmctld slurmd slurm-client munge iproute2)

die() { echo "install-deps: $*" >&2; exit 2; }

dry_run=0
for argument in "$@"; do
  case "$argument" in
    --dry-run) dry_run=1 ;;
    --dev) packages+=("${dev_packages[@]}") ;;
    --slurm) packages+=("${slurm_packages[@]}") ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option '$argument'; expected --dry-run, --dev or --slurm" ;;
  esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  die "apt-get was not found. This script knows Debian 12/13 and Ubuntu 24.04; elsewhere install by hand:
  ${packages[*]}"
fi

missing=()
installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
for package in "${packages[@]}"; do
  grep -qx "$package installed" <<<"$installed" || missing+=("$package")
done

if ((${#missing[@]} == 0)); then
  echo "install-deps: nothing is missing"
  exit 0
fi
echo "install-deps: missing: ${missing[*]}"
((dry_run)) && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "not root and no sudo; as root run: apt-get install ${missing[*]}"
  as_root=(sudo)
fi
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a apt-get -qq \
    -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" </dev/null
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt update && apt install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 15 "$log" >&2
  die "apt could not install them (above: its last words). Is there a network, and is 'main' (Ubuntu: 'universe') enabled?"
fi
echo "install-deps: installed ${#missing[@]} packages"
