# Sourced by the scripts here: Debian packages that a script needs.

# What they bring is mostly for root, whose PATH it may be missing from ("su" without "-").
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

APT_UPDATED=
apt_update() { [ -n "$APT_UPDATED" ] || { APT_UPDATED=1; apt-get -qq update >&2 </dev/null || true; }; }

# ensure COMMAND:PACKAGE... : install the packages whose COMMAND is missing, saying so first. A path stands
# for a file that must exist.
ensure() {
  local need want=()
  for need; do
    case $need in
      /*) [ -e "${need%%:*}" ];;
      *) command -v "${need%%:*}" >/dev/null;;
    esac || want+=("${need#*:}")
  done
  [ ${#want[@]} -gt 0 ] || return 0
  echo "${0##*/}: installing Debian packages: ${want[*]}" >&2
  [ "$(id -u)" = 0 ] || { echo "${0##*/}: not root; as root: apt-get install ${want[*]}" >&2; return 1; }
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${want[@]}")
  # First without "update": where the package lists are fresh, it is the slower half.
  "${install[@]}" >/dev/null 2>&1 </dev/null && return 0
  apt_update
  "${install[@]}" >&2 </dev/null || { echo "${0##*/}: apt-get could not install: ${want[*]}" >&2; return 1; }
}

# ensure_program SERVICE COMMAND:PACKAGE : the same for a daemon that is wanted only as a program, not
# as a service of this machine, now or at its next start.
ensure_program() {
  ! command -v "${2%%:*}" >/dev/null || return 0
  local policy=/usr/sbin/policy-rc.d own=
  [ -e $policy ] || { own=1; printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy || return 1; }
  local status=0; ensure "$2" || status=1
  [ -z "$own" ] || rm -f $policy
  # Of every init system, systemd's included.
  update-rc.d "$1" disable >/dev/null 2>&1 || true
  return $status
}

# What building needs besides Rust: TLS is the system's.
ensure_build() { ensure cc:build-essential pkg-config:pkg-config /usr/include/openssl/ssl.h:libssl-dev; }

# What building and the laboratory need.
ensure_lab() {
  ensure_build
  ensure ip:iproute2 ipvsadm:ipvsadm iptables:iptables wget:wget curl:curl \
    openssl:openssl logger:bsdutils
  ensure_program nginx nginx:nginx
}
