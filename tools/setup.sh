#!/usr/bin/env bash
# Looks for what a make target needs, and installs Debian's package of it where that is possible without a question.
#
#   tools/setup.sh go cc git postgresql python shellcheck peers docker
#
# Go, the C compiler and git are left to the user: the script says what is missing and how to get it. The others serve
# the tests and the demo alone.
set -euo pipefail

missing=0

say() { printf '%s\n' "$*" >&2; }

lack() {
  say "missing: $1"
  say "         $2"
  missing=1
}

# as_root runs a command as root: as it is, or by sudo when that asks no password.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo -n "$@"
  fi
}

can_install() {
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

apt_install() {
  say "installing with apt-get: $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# server_in reports whether the directory holds a PostgreSQL server.
server_in() { [ -x "$1/initdb" ] && [ -x "$1/postgres" ]; }

# have_postgresql looks where the tests look: PGBIN alone if it is set, then PATH, then the distributions' directories.
have_postgresql() {
  local dir
  if [ -n "${PGBIN:-}" ]; then
    server_in "$PGBIN"
    return
  fi
  local IFS=:
  for dir in $PATH; do
    if server_in "$dir"; then return 0; fi
  done
  for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/opt/postgresql@*/bin /opt/homebrew/opt/postgresql@*/bin; do
    if server_in "$dir"; then return 0; fi
  done
  return 1
}

# install_postgresql installs the server without the cluster that Debian would create and start: only the binaries are used.
install_postgresql() {
  local conf=/etc/postgresql-common/createcluster.d/fairway.conf
  as_root mkdir -p "${conf%/*}"
  printf 'create_main_cluster = false\n' | as_root tee "$conf" >/dev/null
  local status=0
  apt_install postgresql || status=$?
  as_root rm -f "$conf"
  return "$status"
}

need_postgresql() {
  if have_postgresql; then return; fi
  if [ -z "${PGBIN:-}" ] && can_install && install_postgresql && have_postgresql; then return; fi
  lack "PostgreSQL's server (initdb, postgres)" \
    "Debian and Ubuntu: apt-get install postgresql; or set PGBIN to the directory that holds the binaries"
}

have_python() { command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null; }

need_python() {
  if have_python; then return; fi
  if can_install && apt_install python3-venv && have_python; then return; fi
  lack "Python 3 with venv (the tests run real Python drivers)" "Debian and Ubuntu: apt-get install python3-venv"
}

have_libpq() { command -v pg_config >/dev/null && [ -f "$(pg_config --includedir)/libpq-fe.h" ]; }

need_libpq() {
  if have_libpq; then return; fi
  if can_install && apt_install libpq-dev && have_libpq; then return; fi
  lack "libpq's headers (a driver's test program is in C)" "Debian and Ubuntu: apt-get install libpq-dev"
}

have_java() { command -v javac >/dev/null && command -v mvn >/dev/null && command -v xz >/dev/null; }

need_java() {
  if have_java; then return; fi
  if can_install && apt_install default-jdk-headless maven xz-utils && have_java; then return; fi
  lack "a JDK, Maven and xz (a driver's test program is in Java, and tests fetch another version of PostgreSQL)" "Debian and Ubuntu: apt-get install default-jdk-headless maven xz-utils"
}

have_node() { command -v node >/dev/null && command -v npm >/dev/null; }

need_node() {
  if have_node; then return; fi
  if can_install && apt_install nodejs npm && have_node; then return; fi
  lack "Node.js and npm (a driver's test program is in JavaScript)" "Debian and Ubuntu: apt-get install nodejs npm"
}

# rust_wanted is the oldest Rust that the drivers build with, as their workspace says.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "${BASH_SOURCE[0]}")/../integration/drivers/rust/Cargo.toml"; }

have_rust() {
  local version
  command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
  version=$(rustc --version 2>/dev/null | cut -d ' ' -f 2) # rustup's rustc fails when there is no toolchain
  [ -n "$version" ] && printf '%s\n' "$(rust_wanted)" "$version" | sort -V -C
}

need_rust() {
  if have_rust; then return; fi
  if ! command -v rustc >/dev/null && can_install && apt_install cargo rustc && have_rust; then return; fi
  lack "Rust and Cargo $(rust_wanted) or newer (two drivers' test programs are in Rust)" \
    "https://rustup.rs (rustup update stable); Debian and Ubuntu have it as cargo and rustc, some releases an older one"
}

need_shellcheck() {
  if command -v shellcheck >/dev/null; then return; fi
  if can_install && apt_install shellcheck && command -v shellcheck >/dev/null; then return; fi
  lack "shellcheck" "Debian and Ubuntu: apt-get install shellcheck"
}

have_peers() {
  PATH=$PATH:/usr/sbin:/usr/local/sbin
  command -v pgbouncer >/dev/null && command -v pgpool >/dev/null && command -v haproxy >/dev/null
}

# install_quietly installs packages and starts nothing of them: a policy-rc.d that ends with 101 forbids packages to
# start their services (invoke-rc.d(8)). One that is there already is left alone.
install_quietly() {
  local policy=/usr/sbin/policy-rc.d mine=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    mine=yes
  fi
  local status=0
  apt_install "$@" || status=$?
  if [ -n "$mine" ]; then as_root rm -f "$policy"; fi
  return "$status"
}

need_peers() {
  if have_peers; then return; fi
  if can_install && install_quietly pgbouncer pgpool2 haproxy && have_peers; then return; fi
  lack "PgBouncer, Pgpool-II and HAProxy (the benchmark compares with them)" \
    "Debian and Ubuntu: apt-get install pgbouncer pgpool2 haproxy, and stop the services they start"
}

have_docker() {
  PATH=$PATH:/usr/sbin:/usr/local/sbin
  command -v dockerd >/dev/null && command -v docker >/dev/null
}

need_docker() {
  if have_docker; then return; fi
  if can_install && install_quietly docker.io && have_docker; then return; fi
  lack "Docker's engine (a test starts one of its own)" "Debian and Ubuntu: apt-get install docker.io"
}

need_go() {
  if command -v go >/dev/null; then return; fi
  lack "go" "Go 1.26 or newer: https://go.dev/dl/ (an older one from 1.21 on fetches the right one by itself)"
}

need_cc() {
  local cc=${CC:-gcc}
  # CC may carry options of its own.
  if command -v "${cc%% *}" >/dev/null; then return; fi
  lack "a C compiler ($cc)" \
    "Debian and Ubuntu: apt-get install gcc libc6-dev; without one 'make build-nocgo' still works"
}

need_git() {
  if command -v git >/dev/null; then return; fi
  lack "git" "Debian and Ubuntu: apt-get install git"
}

for what in "$@"; do
  case $what in
    go) need_go ;;
    cc) need_cc ;;
    git) need_git ;;
    postgresql) need_postgresql ;;
    python) need_python ;;
    libpq) need_libpq ;;
    java) need_java ;;
    node) need_node ;;
    rust) need_rust ;;
    shellcheck) need_shellcheck ;;
    peers) need_peers ;;
    docker) need_docker ;;
    *)
      say "setup.sh: unknown thing to look for: $what"
      exit 2
      ;;
  esac
done
exit "$missing"
