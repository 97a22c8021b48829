# Sourced by tests that do what pages of docs/ say: machines to do it on. Each is a Debian that systemd has booted
# in a container of its own (systemd-nspawn), with a network of its own. All of it inside scripts/ipvs-vm.

failed=0
# check TEXT COMMAND... : a line that says whether the command succeeded, with its output if not.
check() {
  local text=$1; shift
  if "$@" >/run/said 2>&1; then echo "ok      $text"; else failed=1; echo "NOT OK  $text: $*"; tail -20 /run/said | sed 's/^/        /'; fi
}
not() { ! "$@"; }
# until_done SECONDS COMMAND... : again and again until it succeeds.
until_done() {
  local end=$((SECONDS + $1)); shift
  until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done
}
give_up() { echo "NOT OK  $*"; exit 1; }

machines_begin() { mount -t cgroup2 cgroup2 /sys/fs/cgroup; }
# machine NAME : a network with nothing but "lo", for commands alone.
machine() { ip netns add "$1" && ip -n "$1" link set lo up; }
# segment NAME...
segment() { local name; for name; do ip link add "$name" type bridge && ip link set "$name" up; done; }
# plug MACHINE INTERFACE SEGMENT ADDRESS...
plug() {
  local machine=$1 interface=$2 segment=$3 address; shift 3
  ip link add "$machine-$interface" type veth peer name "$interface" netns "$machine" &&
    ip link set "$machine-$interface" master "$segment" up && ip -n "$machine" link set "$interface" up &&
    for address; do ip -n "$machine" addr add "$address" dev "$interface" || return 1; done
}
# layer NAME LOWER : a root of its own above that Debian, /run/NAME/root.
layer() {
  mkdir -p "/run/$1/up" "/run/$1/work" "/run/$1/root" &&
    mount -t overlay -o "lowerdir=$2,upperdir=/run/$1/up,workdir=/run/$1/work" overlay "/run/$1/root"
}
# boot NAME : systemd in that root, with the network NAME.
boot() {
  SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes systemd-nspawn --quiet --directory="/run/$1/root" --boot --machine="$1" \
    --network-namespace-path="/run/netns/$1" --keep-unit --register=no --console=pipe --link-journal=no \
    --capability=all --bind-ro=/lib/modules </dev/null >"/run/$1/console" 2>&1 &
}
# boots NAME... : waits until they are up.
declare -A LEADER
boots() {
  local name
  for name; do
    until_done 400 is_up "$name" || { tail -20 "/run/$name/console"; give_up "$name does not boot"; }
    # There is no udev in a container. By this networkd knows.
    on "$name" mount -o remount,bind,ro /sys
  done
}
is_up() {
  local pid
  LEADER[$1]=
  for pid in $(ip netns pids "$1"); do
    # The first process of the container, as it is seen from here.
    [ "$(sed -n 's/^NSpid:.*\t//p' "/proc/$pid/status" 2>/dev/null)" != 1 ] || LEADER[$1]=$pid
  done
  [ -n "${LEADER[$1]}" ] || return 1
  case $(on "$1" systemctl is-system-running 2>/dev/null) in running|degraded) ;; *) return 1;; esac
}
# on NAME COMMAND... : on that machine, in root's directory, with little more in its environment than a path.
on() {
  local name=$1; shift
  local clean=(env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root)
  if [ -n "${LEADER[$name]:-}" ]; then
    nsenter -t "${LEADER[$name]}" -a "${clean[@]}" sh -c 'cd && exec "$@"' sh "$@"
  else
    ip netns exec "$name" "${clean[@]}" "$@"
  fi
}
# beside NAME COMMAND... : with that machine's network, but with this one's programs.
beside() { local name=$1; shift; ip netns exec "$name" "$@"; }

has_address() { on "$1" ip -o -4 addr | grep -q " $2/"; }
# answers MACHINE URL TEXT : whether the answer has that text.
answers() { beside "$1" curl -s -k -m 5 "$2" | grep -q -- "$3"; }

# web_server NAME TEXT : nginx in the machine's root, not booted yet, answers http and https with the text and the
# client's address.
web_server() {
  local root=/run/$1/root
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$1" -keyout "$root/etc/nginx/key.pem" \
    -out "$root/etc/nginx/cert.pem" 2>/dev/null || return 1
  rm -f "$root"/etc/nginx/sites-enabled/*
  cat >"$root/etc/nginx/conf.d/site.conf" <<END
server {
  listen 80; listen 443 ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem;
  location / { return 200 "$2 for \$remote_addr\n"; }
}
END
}

# journals NAME... : the ends of their logs.
journals() {
  local name
  for name; do
    [ ! -d "/proc/${LEADER[$name]:-none}" ] || on "$name" journalctl --no-pager -o short-monotonic -n 40 | cut -c1-200 | sed "s/^/$name      /"
  done
}
